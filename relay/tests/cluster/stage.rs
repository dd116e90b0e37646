//! Three relay processes, on a primary with two replicas and a Redis.

use crate::clients::AUTHOR_ONLY;
use deploy::postgres::PostgresCluster;
use deploy::recording::Recording;
use deploy::redis::RedisServer;
use deploy::relay::Relay;
use deploy::{Home, Signal};
use std::path::Path;
use std::sync::Arc;

/// The relays' database.
pub const DATABASE: &str = "postgres";

/// The servers that a fault may act on.
pub struct Stage {
    pub postgres: PostgresCluster,
    pub redis: RedisServer,
    pub relays: Vec<Relay>,
}

impl Stage {
    /// Starts everything and waits until it is ready. Without `redis` the relays are configured with one that does not
    /// exist.
    pub async fn start(redis: bool, synchronous: bool) -> Self {
        let home = Home::temporary().unwrap();
        let mut server = RedisServer::new("redis", home.clone()).unwrap();
        if redis {
            server.start().await.unwrap();
        }
        let settings = [("RELAY_REDIS_URL", server.url())];
        Self::start_with(home, server, synchronous, &settings).await
    }

    /// Like [`start`](Self::start), with the bus that `settings` of the relays name.
    pub async fn start_with(
        home: Arc<Home>,
        server: RedisServer,
        synchronous: bool,
        settings: &[(&str, String)],
    ) -> Self {
        let setup = PostgresCluster::setup().replicas(2).synchronous(synchronous).home(home.clone());
        let postgres = setup.start().await.unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_relay"));
        let mut stage = Self { postgres, redis: server, relays: Vec::new() };
        for number in 1..=3 {
            let relay = Relay::new(&format!("relay-{number}"), program, home.clone()).unwrap();
            let urls = stage.postgres.database_urls(DATABASE).join(",");
            let relay = relay.set("RELAY_DATABASE_URLS", urls).set("RELAY_TIMEOUTS_DRAIN_SECONDS", "1");
            let relay = relay.set("RELAY_ACCESS_AUTHOR_KINDS", AUTHOR_ONLY.to_string());
            let relay = relay.set("RELAY_PROTOCOL_AND_TAGS", "true");
            let relay = settings.iter().fold(relay, |relay, (variable, value)| relay.set(variable, value));
            stage.relays.push(relay);
        }
        for relay in &mut stage.relays {
            relay.start().await.unwrap();
        }
        stage
    }

    /// Restarts a relay with other settings.
    pub async fn change(&mut self, relay: usize, settings: &[(&str, String)]) {
        let mut changed = self.relays.remove(relay);
        changed.stop().await.unwrap();
        changed = settings.iter().fold(changed, |relay, (variable, value)| relay.set(variable, value));
        changed.start().await.unwrap();
        self.relays.insert(relay, changed);
    }

    /// Records what Prometheus would scrape from the relays.
    pub fn record(&self) -> Recording {
        Recording::start(self.relays.iter().map(Relay::target).collect())
    }

    /// Waits until the bus is up for every relay, or with `up: false` until it is down for one.
    pub async fn wait_bus(&self, up: bool) {
        deploy::until(&format!("the bus, up: {up}"), deploy::STEP_TIMEOUT, async || {
            let mut states = Vec::new();
            for relay in 0..self.relays.len() {
                states.push(self.metric(relay, "nostr_bus_up", "").await == 1.0);
            }
            let reached = if up { states.iter().all(|up| *up) } else { states.contains(&false) };
            if reached { Ok(()) } else { Err(format!("{states:?}")) }
        })
        .await
        .unwrap();
    }

    /// A relay's metric: the sum over its series whose labels contain `label`.
    pub async fn metric(&self, relay: usize, name: &str, label: &str) -> f64 {
        let (_, text) = self.relays[relay].get("/metrics").await.unwrap();
        let wanted = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        wanted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the metric of at least one of `relays` satisfies `wanted`.
    pub async fn wait_metric(&self, relays: &[usize], name: &str, label: &str, wanted: impl Fn(f64) -> bool) {
        deploy::until(&format!("{name} to show it"), deploy::STEP_TIMEOUT, async || {
            let mut values = Vec::new();
            for relay in relays {
                values.push(self.metric(*relay, name, label).await);
            }
            if values.iter().copied().any(&wanted) { Ok(()) } else { Err(format!("{values:?}")) }
        })
        .await
        .unwrap();
    }

    /// The number of events that the server of this name has applied.
    pub async fn events_on(&self, server: &str) -> i64 {
        self.postgres.server(server).unwrap().ask("SELECT count(*) FROM event").await.unwrap()
    }

    /// Entries that the relays had to read from the log, since the bus did not bring them.
    pub async fn read_from_log(&self) -> f64 {
        let mut sum = 0.0;
        for relay in 0..self.relays.len() {
            sum += self.metric(relay, "nostr_log_entries_total", "\"log\"").await;
        }
        sum
    }

    /// Stops the relays before their servers, so that no relay logs a server that is down.
    pub async fn stop(mut self) {
        self.relays.iter().for_each(|relay| relay.signal(Signal::TERM));
        for relay in &mut self.relays {
            assert!(relay.stop().await.unwrap(), "{} had to be killed", relay.name);
        }
    }
}
