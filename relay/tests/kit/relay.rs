//! A relay in this process, on a port of its own.

use super::{Client, patiently};
use arc_swap::ArcSwap;
use relay::cache::{Cache, NoLayer};
use relay::config::Config;
use relay::connection::{ConnectionSettings, Listener, Services, ShutdownTrigger, shutdown};
use relay::ingest::{Ingest, IngestSettings, Stations, WriterSettings};
use relay::log::Log;
use relay::memory::ClientMemory;
use relay::policy::Rules;
use relay::query::Queries;
use relay::store::{Store, memory::MemoryStore};
use relay::task::Tasks;
use relay::telemetry::Metrics;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The setup of a relay; a test changes what it needs.
pub struct Setup {
    /// By default those of the default configuration, without pings and without a limit on connections.
    pub settings: ConnectionSettings,
    pub rules: Rules,
    /// By default in memory.
    pub store: Arc<dyn Store>,
    pub ring_bytes: usize,
    /// The account of what is held for clients; by default without a bound.
    pub memory: Arc<ClientMemory>,
    pub ingest: IngestSettings,
    pub information: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        let mut settings = ConnectionSettings::new(&Config::default());
        settings.ping_interval = None;
        settings.max_connections = 10_000;
        Self {
            settings,
            rules: Rules::default(),
            store: Arc::new(MemoryStore::new()),
            ring_bytes: 16 << 20,
            memory: ClientMemory::unbounded(),
            ingest: IngestSettings {
                queue: 1024,
                verify_threads: 1,
                writer: WriterSettings { max_batch: 256, sweep: None },
            },
            information: "{}",
        }
    }
}

/// A running relay. [`stop`](Self::stop) it to see that it drains; dropping it just ends the test's runtime.
pub struct Relay {
    pub address: SocketAddr,
    pub settings: Arc<ArcSwap<ConnectionSettings>>,
    pub rules: Arc<ArcSwap<Rules>>,
    pub log: Arc<Log>,
    pub store: Arc<dyn Store>,
    pub memory: Arc<ClientMemory>,
    pub shutdown: ShutdownTrigger,
    listener: JoinHandle<()>,
    stations: Stations,
}

impl Relay {
    /// A relay with the default [`Setup`].
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A relay whose setup was changed.
    pub async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup::default();
        change(&mut setup);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let metrics = Arc::new(Metrics::detached());
        let (store, memory) = (setup.store, setup.memory);
        let cache = Cache::new(16 << 20, Arc::new(NoLayer), metrics.clone());
        let log = Log::with_cache(store.head().await.unwrap(), setup.ring_bytes, Some(cache), metrics.clone());
        let rules = Arc::new(ArcSwap::from_pointee(setup.rules));
        let settings = Arc::new(ArcSwap::from_pointee(setup.settings));
        let (ingest, stations) =
            Ingest::start(store.clone(), log.clone(), rules.clone(), metrics.clone(), setup.ingest).unwrap();
        let (trigger, signal) = shutdown();

        let services = Services {
            ingest,
            queries: Queries::new(store.clone(), log.clone(), metrics.clone()),
            log: log.clone(),
            rules: rules.clone(),
            settings: settings.clone(),
            information: Arc::new(ArcSwap::from_pointee(setup.information.into())),
            memory: memory.clone(),
            shutdown: signal,
            tasks: Tasks::new(metrics.clone()),
            metrics,
        };

        let listener = tokio::spawn(Listener::new(tcp, services).run());
        Self { address, settings, rules, log, store, memory, shutdown: trigger, listener, stations }
    }

    /// The relay's URL as clients know it.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// A new client that has read its challenge.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Changes the settings in force.
    pub fn change(&self, change: impl FnOnce(&mut ConnectionSettings)) {
        let mut settings = (*self.settings.load_full()).clone();
        change(&mut settings);
        self.settings.store(Arc::new(settings));
    }

    /// Drains over `time`, and waits until every connection has ended and every event is stored.
    pub async fn stop(self, time: Duration) {
        self.shutdown.drain(time);
        patiently("the connections to end", self.listener).await.unwrap();
        patiently("the stations to end", self.stations.drained()).await.unwrap();
    }
}
