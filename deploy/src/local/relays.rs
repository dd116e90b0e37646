//! Scales and replaces the relays of a local cluster.

use super::state::{Lock, RelayPlace};
use super::{DATABASE, Local, ProgressBar, Wish};
use crate::relay::Relay;
use crate::{Error, free_port};
use haproxy::Status;

/// The pool settings of a relay, in connections for each core of the machine. All servers share the cores, so further
/// connections would only wait for each other.
const CONNECTIONS: [(&str, usize); 3] = [
    ("RELAY_POSTGRES_PRIMARY_CONNECTIONS_MIN", 1),
    ("RELAY_POSTGRES_REPLICA_CONNECTIONS_MIN", 1),
    ("RELAY_POSTGRES_REPLICA_CONNECTIONS_MAX", 5),
];

/// The setting that names the other relays' admin listeners.
const PEERS: &str = "RELAY_ADMIN_PEERS";

impl Local {
    pub(super) fn relay(&self, place: &RelayPlace) -> Result<Relay, Error> {
        let program = self.state.relay_program.clone();
        let program = program.ok_or_else(|| Error::State("the relays' program is not known".to_owned()))?;
        let mut relay = Relay::new(&place.name, &program, self.home.clone())?
            .set("RELAY_DATABASE_URLS", self.postgres.database_urls(DATABASE).join(","))
            .set("RELAY_REDIS_URL", self.redis.url())
            .set("RELAY_PUBLIC_URL", self.front.url())
            .set("RELAY_PROXY_TRUSTED_NETWORKS", "127.0.0.1")
            .set(PEERS, self.peers())
            .life(self.life);
        let cores = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 10);

        for (variable, per_core) in CONNECTIONS {
            relay = relay.set(variable, (cores * per_core).to_string());
        }
        for (variable, value) in &self.state.settings {
            relay = relay.set(variable, value);
        }
        (relay.port, relay.admin_port) = (place.port, place.admin_port);
        Ok(relay)
    }

    /// Checks that the program accepts the settings: else no relay would start any more.
    pub(super) async fn check_relays(&self) -> Result<(), Error> {
        if self.state.relay_program.is_none() {
            return Ok(());
        }
        let some = RelayPlace { name: "relay".to_owned(), port: free_port()?, admin_port: free_port()? };
        self.relay(&some)?.check().await
    }

    /// The admin listeners of all relays, so that each dashboard shows all.
    fn peers(&self) -> String {
        let peer = |place: &RelayPlace| format!("127.0.0.1:{}", place.admin_port);
        self.state.relays.iter().map(peer).collect::<Vec<_>>().join(",")
    }

    /// Changes the number of relays. New ones get clients when they are ready; those that are removed are drained
    /// first.
    ///
    /// # Errors
    /// Any [`Error`] of a step.
    pub async fn scale(&mut self, relays: usize, progress: &ProgressBar) -> Result<(), Error> {
        let _lock = Lock::take(&self.home)?;
        if relays > 0 {
            self.front.check(&self.state.relays)?;
        }
        self.scale_to(relays, progress).await
    }

    pub(super) async fn scale_to(&mut self, wanted: usize, progress: &ProgressBar) -> Result<(), Error> {
        while self.relays.len() > wanted {
            self.remove_last(progress).await?;
        }
        for number in self.relays.len() + 1..=wanted {
            let place = RelayPlace { name: format!("relay-{number}"), port: free_port()?, admin_port: free_port()? };
            self.relays.push(self.relay(&place)?);
            self.state.relays.push(place);
        }

        self.save()?;
        // Relays that run already learn the new peers at their next start.
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
            self.front.stop().await?;
            return self.observe(progress).await;
        }
        progress.set_message("HAProxy");
        self.front.start(&self.state.relays).await?;
        self.observe(progress).await
    }

    async fn observe(&mut self, progress: &ProgressBar) -> Result<(), Error> {
        let Some(prometheus) = &mut self.prometheus else { return Ok(()) };
        progress.set_message("Prometheus");
        prometheus.follow(&self.front.model(&self.state.relays)).await
    }

    async fn remove_last(&mut self, progress: &ProgressBar) -> Result<(), Error> {
        let (Some(mut relay), Some(place)) = (self.relays.pop(), self.state.relays.pop()) else { return Ok(()) };
        progress.set_message(format!("draining {}", place.name));
        if self.front.is_alive() {
            self.front.configure(&self.state.relays)?;
            // HAProxy does not know a relay that never became ready.
            let known = self.front.servers().await?.iter().any(|server| server.name == place.name);
            if known {
                self.front.drain(&place.name).await?;
            }
            relay.stop().await?;
            if known {
                self.front.remove(&place.name).await?;
            }
        } else {
            relay.stop().await?;
        }
        self.save()
    }

    /// Restarts the relays one at a time, each drained first, with the program and the settings of `wish` where it has
    /// any. Ignores everything else in `wish`.
    ///
    /// # Errors
    /// Any [`Error`] of a step; the relays that were not reached keep running as they were.
    pub async fn roll(&mut self, wish: &Wish, progress: &ProgressBar) -> Result<(), Error> {
        let _lock = Lock::take(&self.home)?;
        let before = self.state.clone();
        self.state.accept_for_relays(wish)?;
        if let Err(refused) = self.check_relays().await {
            self.state = before;
            return Err(refused);
        }

        self.save()?;
        let servers = if self.front.is_alive() { Some(self.front.servers().await?) } else { None };
        let server = |place: &RelayPlace| servers.iter().flatten().find(|server| server.name == place.name);
        let up = |place: &RelayPlace| server(place).is_some_and(|server| server.status == Status::Up);
        let mut order: Vec<_> = (0..self.state.relays.len()).collect();

        // First the relays that serve no clients: an interrupted roll has left one of them, and the others are needed.
        order.sort_by_key(|index| self.relays[*index].is_alive() && up(&self.state.relays[*index]));
        for (nth, index) in order.into_iter().enumerate() {
            let place = &self.state.relays[index];
            progress.set_message(format!("{} of {}: {}", nth + 1, self.state.relays.len(), place.name));
            let known = server(place).is_some();
            if known {
                self.front.drain(&place.name).await?;
            }
            self.relays[index].stop().await?;
            self.relays[index] = self.relay(place)?;
            self.relays[index].start().await?;
            if known {
                self.front.ready(&place.name).await?;
            } else if servers.is_some() {
                self.front.add(place).await?;
            }
        }
        Ok(())
    }
}
