//! A whole cluster on this machine: Postgres, Redis, relays and HAProxy, in one directory. It keeps running between
//! commands.

mod front;
mod observe;
mod relays;
mod state;
mod status;

pub use status::Row;

use crate::postgres::{Failover, PostgresCluster, PostgresServer, Role};
use crate::process::{Life, Process};
use crate::recording::Recording;
use crate::redis::RedisServer;
use crate::relay::Relay;
use crate::{Error, Home, Signal};
use front::Front;
pub use indicatif::ProgressBar;
use observe::Prometheus;
use state::{Lock, State, check_new};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The database that the relays use.
pub const DATABASE: &str = "skein";

/// What [`Local::up`] must bring about. `None` keeps the present value, or takes the default in a new cluster.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The number of relays; by default 3. With 0 there is no HAProxy either.
    pub relays: Option<usize>,
    /// The number of streaming replicas; by default 2. It cannot become smaller.
    pub replicas: Option<usize>,
    /// HAProxy's port; by default 8080.
    pub port: Option<u16>,
    /// Whether HAProxy uses TLS there, with a self-signed certificate.
    pub tls: bool,
    /// Whether a commit waits for a replica.
    pub synchronous: bool,
    /// The relays' program; needed once there is a relay.
    pub relay_program: Option<PathBuf>,
    /// Settings of all relays as environment variables, `RELAY_...`, beside those that make them a cluster. They are
    /// stored, and take effect at each relay's next start.
    pub settings: Vec<(String, String)>,
    /// The names of stored settings to remove.
    pub unset: Vec<String>,
    /// Whether Prometheus scrapes the cluster; later calls cannot turn it off.
    pub observe: bool,
    /// Whether all processes end with the handle that [`Local::up`] returns, as tests need it; by default they keep
    /// running.
    pub guarded: bool,
}

/// A cluster of processes.
#[derive(Debug)]
pub struct Local {
    home: Arc<Home>,
    state: State,
    postgres: PostgresCluster,
    redis: RedisServer,
    relays: Vec<Relay>,
    front: Front,
    prometheus: Option<Prometheus>,
    life: Life,
}

impl Local {
    /// Opens the cluster in a directory, whichever of its processes run; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::State`] if its state cannot be read; [`Error::Missing`] without Postgres's programs.
    pub fn open(folder: &Path) -> Result<Option<Self>, Error> {
        let Some(state) = State::read(folder)? else { return Ok(None) };
        let servers = state.servers.len();
        Self::resume(Home::at(folder)?, state, servers, Life::Detached).map(Some)
    }

    /// Makes the handles. `servers` is the number of Postgres servers that will share the machine's memory.
    fn resume(home: Arc<Home>, state: State, servers: usize, life: Life) -> Result<Self, Error> {
        let setup = PostgresCluster::setup_for_machine(servers)?;
        let setup = setup.synchronous(state.synchronous).home(home.clone()).life(life);
        let mut redis = RedisServer::new("redis", home.clone())?.life(life);
        redis.port = state.redis_port;
        let front = Front::new(state.front.clone(), home.clone(), life);
        let prometheus = state.prometheus_port.map(|port| Prometheus::new(port, home.clone(), life));
        let postgres = setup.resume(&state.servers)?;
        let mut local = Self { postgres, redis, relays: Vec::new(), front, prometheus, home, state, life };
        for place in &local.state.relays {
            local.relays.push(local.relay(place)?);
        }
        Ok(local)
    }

    /// Starts a cluster, or the missing parts of one, and waits until all of it is ready.
    ///
    /// After an interruption another call continues; [`down`](Self::down) ends the processes that were started.
    ///
    /// # Errors
    /// Any [`Error`] of a step.
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

        let settled = Process::find(front::NAME, &home).is_some()
            || state.relays.iter().any(|relay| Process::find(&relay.name, &home).is_some());
        let promised =
            |state: &State| (state.settings.clone(), state.relay_program.clone(), state.front.port, state.front.tls);
        let before = Some(promised(&state)).filter(|_| !state.servers.is_empty());

        state.accept(wish, settled)?;
        let is_new = before != Some(promised(&state));
        let relays = wish.relays.unwrap_or(if state.servers.is_empty() { 3 } else { state.relays.len() });
        let servers = match (wish.replicas, state.servers.len()) {
            (Some(replicas), _) => replicas + 1,
            (None, 0) => 3,
            (None, servers) => servers,
        };

        let life = if wish.guarded { Life::Guarded } else { Life::Detached };
        let mut local = Self::resume(home, state, servers, life)?;
        while local.postgres.servers.len() < servers {
            local.postgres.add()?;
        }

        // The wish is checked before it is saved: else the next call would fail at it again.
        if is_new {
            if relays > 0 {
                local.front.check(&local.state.relays)?;
            }
            local.check_relays().await?;
        }

        local.start_servers(progress).await?;
        local.scale_to(relays, progress).await?;
        Ok(local)
    }

    /// Starts all processes of the cluster that do not run, as another [`up`](Self::up) would, and waits until all are
    /// ready.
    ///
    /// # Errors
    /// Any [`Error`] of a step.
    pub async fn mend(&mut self, progress: &ProgressBar) -> Result<(), Error> {
        let _lock = Lock::take(&self.home)?;
        self.state.accept(&Wish::default(), true)?;
        self.start_servers(progress).await?;
        self.scale_to(self.relays.len(), progress).await
    }

    async fn start_servers(&mut self, progress: &ProgressBar) -> Result<(), Error> {
        self.save()?;
        let replicas = self.postgres.servers.len().saturating_sub(1);
        progress.set_message(format!("Postgres: a primary and {replicas} replicas"));
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

    /// Fences the primary and promotes the replica that has received the most; the others follow it. See
    /// [`PostgresCluster::failover`].
    ///
    /// # Errors
    /// As there. After an interruption another call must complete it.
    pub async fn failover(&mut self, progress: &ProgressBar) -> Result<Failover, Error> {
        let _lock = Lock::take(&self.home)?;
        if self.state.failing_over {
            progress.set_message("taking up a failover that was broken off");
            let replica = |server: &&mut PostgresServer| server.role() == Role::Replica && !server.is_fenced();
            for server in self.postgres.servers.iter_mut().filter(replica) {
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
            // With its backends: they would block the shared memory for the next start.
            Signal::KILL => process.kill().await?,
            Signal::STOP | Signal::CONT => process.signal_all(signal),
            _ => process.signal(signal),
        }
        Ok(())
    }

    /// Lets HAProxy read its file and its certificate again; open connections stay.
    ///
    /// # Errors
    /// [`Error::Front`] if it refuses the file, which changes nothing.
    pub async fn reload(&mut self) -> Result<(), Error> {
        let _lock = Lock::take(&self.home)?;
        self.front.reload(&self.state.relays).await
    }

    /// The relays.
    pub fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// The Postgres servers.
    pub fn postgres(&self) -> &PostgresCluster {
        &self.postgres
    }

    /// The program of the relays, once it was given.
    pub fn relay_program(&self) -> Option<&Path> {
        self.state.relay_program.as_deref()
    }

    /// HAProxy's Runtime API.
    pub fn front(&self) -> haproxy::Runtime {
        self.front.runtime()
    }

    /// Records what Prometheus would scrape from the present relays and from HAProxy.
    pub fn record(&self) -> Recording {
        Recording::start(self.relays.iter().map(Relay::target).chain([self.front.target()]).collect())
    }

    /// The value of a series of HAProxy's Prometheus exporter; `series` includes the labels.
    ///
    /// # Errors
    /// [`Error::State`] if there is none; [`Error::Io`] if HAProxy does not answer.
    pub async fn front_metric(&self, series: &str) -> Result<f64, Error> {
        let text = self.front.metrics().await?;
        status::metric(&text, series).ok_or_else(|| Error::State(format!("HAProxy has no {series}")))
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        self.front.url()
    }

    /// The name of every process, with the process where it was started.
    fn processes(&self) -> Vec<(&str, Option<&Process>)> {
        let servers = self.postgres.servers.iter().map(|server| (server.name(), server.process()));
        let relays = self.relays.iter().map(|relay| (relay.name.as_str(), relay.process()));
        let others = [("redis", self.redis.process()), (self.front.name(), self.front.process())];
        let prometheus = self.prometheus.iter().map(|prometheus| (prometheus.name(), prometheus.process()));
        servers.chain(relays).chain(others).chain(prometheus).collect()
    }

    /// Ends all processes: drains the relays first, and lets the replicas receive everything. Data and logs stay; `up`
    /// starts from them again.
    ///
    /// # Errors
    /// [`Error::Timeout`] if something cannot be ended.
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
        if let Some(prometheus) = &mut self.prometheus {
            prometheus.stop().await?;
        }
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
