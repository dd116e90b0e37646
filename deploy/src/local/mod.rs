//! A whole cluster on this machine: Postgres, Redis, relays, HAProxy, in one directory, alive between commands.

mod front;
mod state;
mod status;

pub use status::Row;

use crate::postgres::{self, Failover, Role};
use crate::process::{Life, Process};
use crate::relay::Relay;
use crate::{Error, Home, Signal, free_port, redis};
use front::Front;
use indicatif::ProgressBar;
use state::{Lock, RelayPlace, State, check_new};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where a relay is told of the others.
const PEERS: &str = "RELAY_ADMIN_PEERS";
/// The database that the relays use.
pub const DATABASE: &str = "skein";

/// What [`Local::up`] is to bring about. `None` leaves what is there, and stands for the default where nothing is.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Relays; by default 3. With none there is no HAProxy either.
    pub relays: Option<usize>,
    /// Streaming replicas; by default 2. They can't become fewer.
    pub replicas: Option<usize>,
    /// HAProxy's port; by default 8080.
    pub port: Option<u16>,
    /// Whether HAProxy speaks TLS there, with a certificate of its own making.
    pub tls: bool,
    /// Whether a commit waits for a replica.
    pub synchronous: bool,
    /// The relays' program; needed once there is a relay.
    pub relay_program: Option<PathBuf>,
}

/// A cluster of detached processes.
#[derive(Debug)]
pub struct Local {
    home: Arc<Home>,
    state: State,
    postgres: postgres::Cluster,
    redis: redis::Server,
    relays: Vec<Relay>,
    front: Front,
}

impl Local {
    /// Takes hold of the cluster in a directory, whatever of it runs; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::State`] if its state can't be read; [`Error::Missing`] without Postgres's programs.
    pub fn open(folder: &Path) -> Result<Option<Self>, Error> {
        let Some(state) = State::read(folder)? else { return Ok(None) };
        let servers = state.servers.len();
        Self::resume(Home::at(folder)?, state, servers).map(Some)
    }

    /// `servers`: how many Postgres servers will share the machine's memory.
    fn resume(home: Arc<Home>, state: State, servers: usize) -> Result<Self, Error> {
        let setup = postgres::Cluster::setup_for_machine(servers)?;
        let setup = setup.synchronous(state.synchronous).home(home.clone()).life(Life::Detached);
        let mut redis = redis::Server::new("redis", home.clone())?.life(Life::Detached);
        redis.port = state.redis_port;
        let front = Front::new(state.front.clone(), home.clone());
        let postgres = setup.resume(&state.servers)?;
        let mut local = Self { postgres, redis, relays: Vec::new(), front, home, state };
        for place in &local.state.relays {
            local.relays.push(local.relay(place)?);
        }
        Ok(local)
    }

    fn relay(&self, place: &RelayPlace) -> Result<Relay, Error> {
        let program = self.state.relay_program.clone();
        let program = program.ok_or_else(|| Error::State("the relays' program is not known".to_owned()))?;
        let mut relay = Relay::new(&place.name, &program, self.home.clone())?
            .set("RELAY_DATABASE_URLS", self.postgres.database_urls(DATABASE).join(","))
            .set("RELAY_REDIS_URL", self.redis.url())
            .set("RELAY_PUBLIC_URL", self.front.url())
            .set("RELAY_PROXY_TRUSTED_NETWORKS", "127.0.0.1")
            .set(PEERS, self.peers())
            .life(Life::Detached);
        (relay.port, relay.admin_port) = (place.port, place.admin_port);
        Ok(relay)
    }

    /// The admin listeners of all relays, so that each dashboard shows all.
    fn peers(&self) -> String {
        let peer = |place: &RelayPlace| format!("127.0.0.1:{}", place.admin_port);
        self.state.relays.iter().map(peer).collect::<Vec<_>>().join(",")
    }

    /// How many relays there are to be.
    pub fn relays(&self) -> usize {
        self.relays.len()
    }

    /// Brings a cluster up, or what is missing of one that is there already, and waits until all of it is ready.
    ///
    /// Broken off, it is taken up where it was by another call; [`down`](Self::down) ends what had been started.
    ///
    /// # Errors
    /// Whatever of [`Error`] kept it from coming up.
    pub async fn up(folder: &Path, wish: &Wish, progress: &ProgressBar) -> Result<Self, Error> {
        let state = State::read(folder)?;
        if state.is_none() {
            check_new(folder)?;
        }
        let home = Home::at(folder)?;
        let _lock = Lock::take(&home)?;
        let mut state = match state {
            Some(state) => state,
            None => State::new(wish.synchronous, wish.port.unwrap_or(8080), wish.tls)?,
        };
        state.accept(wish)?;
        let relays = wish.relays.unwrap_or(if state.servers.is_empty() { 3 } else { state.relays.len() });
        let servers = match (wish.replicas, state.servers.len()) {
            (Some(replicas), _) => replicas + 1,
            (None, 0) => 3,
            (None, servers) => servers,
        };
        let mut local = Self::resume(home, state, servers)?;
        local.start_servers(servers, progress).await?;
        local.scale_to(relays, progress).await?;
        Ok(local)
    }

    async fn start_servers(&mut self, servers: usize, progress: &ProgressBar) -> Result<(), Error> {
        while self.postgres.servers.len() < servers {
            self.postgres.add()?;
        }
        self.save()?;
        progress.set_message(format!("Postgres: a primary and {} replicas", servers.saturating_sub(1)));
        self.postgres.start().await?;
        let primary = self.postgres.primary()?;
        let known = format!("SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}')");
        if !primary.ask::<bool>(&known).await? {
            primary.execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        }
        self.save()?;
        progress.set_message("Redis");
        self.redis.start().await
    }

    fn save(&mut self) -> Result<(), Error> {
        self.state.servers = self.postgres.places();
        self.state.write(&self.home)
    }

    /// Changes the number of relays: new ones get clients when they are ready, those that go are drained first.
    ///
    /// # Errors
    /// Whatever of [`Error`] kept it from that.
    pub async fn scale(&mut self, relays: usize, progress: &ProgressBar) -> Result<(), Error> {
        let _lock = Lock::take(&self.home)?;
        self.scale_to(relays, progress).await
    }

    async fn scale_to(&mut self, wanted: usize, progress: &ProgressBar) -> Result<(), Error> {
        while self.relays.len() > wanted {
            self.remove_last(progress).await?;
        }
        let fronted = self.front.is_alive();
        let known = self.relays.len();
        for number in known + 1..=wanted {
            let place = RelayPlace { name: format!("relay-{number}"), port: free_port()?, admin_port: free_port()? };
            self.relays.push(self.relay(&place)?);
            self.state.relays.push(place);
        }
        self.save()?;
        // Those that run already learn of the new ones when they are started anew.
        let peers = self.peers();
        for relay in &mut self.relays {
            relay.settings.retain(|(variable, _)| variable != PEERS);
            relay.settings.push((PEERS.to_owned(), peers.clone()));
        }
        progress.set_message(format!("{wanted} relays"));
        for relay in &mut self.relays {
            relay.spawn()?;
        }
        for relay in &mut self.relays {
            relay.start().await?;
        }
        if wanted == 0 {
            return self.front.stop().await;
        }
        progress.set_message("HAProxy");
        if fronted {
            self.front.configure(&self.state.relays)?;
            for place in self.state.relays.iter().skip(known) {
                self.front.add(place).await?;
            }
        }
        self.front.start(&self.state.relays).await
    }

    async fn remove_last(&mut self, progress: &ProgressBar) -> Result<(), Error> {
        let (Some(mut relay), Some(place)) = (self.relays.pop(), self.state.relays.pop()) else { return Ok(()) };
        progress.set_message(format!("draining {}", place.name));
        if self.front.is_alive() {
            let failed = || Error::front(format!("removing {}", place.name));
            self.front.configure(&self.state.relays)?;
            self.front.runtime().drain(&place.name).await.map_err(failed())?;
            relay.stop().await?;
            self.front.runtime().remove(&place.name, Duration::from_secs(30)).await.map_err(failed())?;
        } else {
            relay.stop().await?;
        }
        self.save()
    }

    /// Replaces the relays one at a time, each drained first: with `program`, if there is a new one, and new settings.
    ///
    /// # Errors
    /// Whatever of [`Error`] kept it from that; the relays that were not reached run on as they were.
    pub async fn roll(&mut self, program: Option<PathBuf>, progress: &ProgressBar) -> Result<(), Error> {
        let _lock = Lock::take(&self.home)?;
        if program.is_some() {
            self.state.relay_program = program;
            self.save()?;
        }
        let runtime = self.front.runtime();
        let fronted = self.front.is_alive();
        for (index, place) in self.state.relays.iter().enumerate() {
            progress.set_message(format!("{} of {}: {}", index + 1, self.state.relays.len(), place.name));
            if fronted {
                runtime.drain(&place.name).await.map_err(Error::front(format!("draining {}", place.name)))?;
            }
            self.relays[index].stop().await?;
            self.relays[index] = self.relay(place)?;
            self.relays[index].start().await?;
            if fronted {
                runtime.ready(&place.name).await.map_err(Error::front(format!("taking in {}", place.name)))?;
                self.front.wait_up(&place.name).await?;
            }
        }
        Ok(())
    }

    /// Fences the primary and promotes the replica that has received the most; the others follow it. See
    /// [`postgres::Cluster::failover`].
    ///
    /// # Errors
    /// As there. Broken off, it must be taken up by another call.
    pub async fn failover(&mut self, progress: &ProgressBar) -> Result<Failover, Error> {
        let _lock = Lock::take(&self.home)?;
        if self.state.failing_over {
            progress.set_message("taking up a failover that was broken off");
            for server in self.postgres.servers.iter_mut().filter(|server| server.role() == Role::Replica) {
                server.start().await?;
            }
        }
        self.postgres.check_survivors()?;
        self.state.failing_over = true;
        self.save()?;
        progress.set_message("fencing the primary, comparing the replicas");
        let done = self.postgres.failover().await?;
        self.state.failing_over = false;
        self.save()?;
        Ok(done)
    }

    /// Sends a signal to one process by its name. `KILL` takes a Postgres server's backends with it; `STOP` and `CONT`
    /// reach them too.
    ///
    /// # Errors
    /// [`Error::State`] if nothing that runs has this name.
    pub async fn kill(&mut self, name: &str, signal: Signal) -> Result<(), Error> {
        let rows = self.processes();
        let names: Vec<_> = rows.iter().map(|(known, _)| (*known).to_owned()).collect();
        let Some((_, process)) = rows.into_iter().find(|(known, _)| *known == name) else {
            return Err(Error::State(format!("there is no {name}, only {}", names.join(", "))));
        };
        let Some(process) = process.filter(|process| process.is_alive()) else {
            return Err(Error::State(format!("{name} does not run")));
        };
        match signal {
            // Its backends are gone then too: they would keep another start from the shared memory.
            Signal::KILL => process.kill().await?,
            Signal::STOP | Signal::CONT => process.signal_all(signal),
            _ => process.signal(signal),
        }
        Ok(())
    }

    /// Every name, with the process if it was started.
    fn processes(&self) -> Vec<(&str, Option<&Process>)> {
        let servers = self.postgres.servers.iter().map(|server| (server.name(), server.process()));
        let relays = self.relays.iter().map(|relay| (relay.name.as_str(), relay.process()));
        let others = [("redis", self.redis.process()), (self.front.name(), self.front.process())];
        servers.chain(relays).chain(others).collect()
    }

    /// Ends everything, the relays drained, the replicas complete. Data and logs stay; `up` starts from them again.
    ///
    /// # Errors
    /// [`Error::Timeout`] if something can't be ended.
    pub async fn down(&mut self, progress: &ProgressBar) -> Result<(), Error> {
        let _lock = Lock::take(&self.home)?;
        progress.set_message("draining the relays");
        for relay in &self.relays {
            relay.signal(Signal::TERM);
        }
        for relay in &mut self.relays {
            relay.stop().await?;
        }
        progress.set_message("HAProxy, Redis");
        self.front.stop().await?;
        self.redis.stop().await?;
        progress.set_message("Postgres");
        self.postgres.stop().await
    }

    /// Removes the directory of a cluster that is down.
    ///
    /// # Errors
    /// [`Error::State`] if something runs.
    pub fn delete(self) -> Result<(), Error> {
        if let Some((name, _)) =
            self.processes().into_iter().find(|(_, process)| process.is_some_and(Process::is_alive))
        {
            return Err(Error::State(format!("{name} runs")));
        }
        let path = self.home.path();
        fs::remove_dir_all(path).map_err(Error::io(format!("removing {}", path.display())))
    }
}

impl State {
    /// Takes from a wish what can change, and refuses what can't.
    fn accept(&mut self, wish: &Wish) -> Result<(), Error> {
        if self.failing_over {
            return Err(Error::State("a failover was broken off: run `failover` again first".to_owned()));
        }
        let replicas = self.servers.len().saturating_sub(1);
        if wish.replicas.is_some_and(|wanted| wanted < replicas) {
            return Err(Error::State(format!("there are {replicas} replicas already, and they can't become fewer")));
        }
        if wish.port.is_some_and(|port| port != self.front.port) || (wish.tls && !self.front.tls) {
            return Err(Error::State(format!(
                "HAProxy listens on port {}{}: that can't be changed while the cluster exists",
                self.front.port,
                if self.front.tls { " with TLS" } else { " without TLS" }
            )));
        }
        self.synchronous |= wish.synchronous;
        if let Some(program) = &wish.relay_program {
            self.relay_program = Some(program.clone());
        }
        Ok(())
    }
}
