//! Starts the stations, from the store to the listener, and drains them.

use super::tls::RunningTls;
use super::{cache, gauges, information, memory};
use crate::cache::Cache;
use crate::config::{Config, ExpirySettings, RedisAddress, RedisAddressError, RedisSettings};
use crate::connection::{ConnectionSettings, Listener, Services, ShutdownTrigger, shutdown};
use crate::ingest::{ClusterLinks, Ingest, IngestSettings, Stations, Sweep, WriterSettings, beginning};
use crate::log::Log;
use crate::log::bus::redis::RedisBus;
use crate::log::bus::{BusHandle, NoBus};
use crate::policy::Rules;
use crate::query::Queries;
use crate::store::{SharedLog, Store};
use crate::task::Tasks;
use crate::telemetry::{Metrics, Task};
use crate::types::Head;
use anyhow::Context;
use arc_swap::ArcSwap;
use hyper::body::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The most events that wait before each station of ingest: enough for a few commits.
const INGEST_QUEUE_EVENTS: usize = 2_048;

/// The most events in one commit. Larger commits add latency and no throughput; 128 measured the same.
const MAX_COMMIT_EVENTS: usize = 512;

/// The most expired events that one commit removes.
const MAX_SWEPT_EVENTS: usize = 500;

/// How long the stations may take to finish their queues, once the last connection has ended.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the ring may load without progress: longer than the largest entry takes. While it makes progress, loading
/// has no limit.
const RING_LOAD_STALL: Duration = Duration::from_secs(90);

pub(super) struct Serving {
    address: SocketAddr,
    tls: Option<RunningTls>,
    store: Arc<dyn Store>,
    stations: Stations,
    bus_up: Option<watch::Receiver<bool>>,
    cache: Option<Arc<Cache>>,
    listener: JoinHandle<()>,
    gauges: JoinHandle<()>,
    trigger: ShutdownTrigger,
    rules: Arc<ArcSwap<Rules>>,
    settings: Arc<ArcSwap<ConnectionSettings>>,
    information: Arc<ArcSwap<Bytes>>,
}

/// Waits until `log` has reached `head`.
async fn load(log: &Log, head: Head) -> anyhow::Result<()> {
    loop {
        let before = log.head();
        match tokio::time::timeout(RING_LOAD_STALL, log.reach(head)).await {
            Ok(reached) => return Ok(reached.map(drop)?),
            Err(_) if log.head() == before => {
                anyhow::bail!("the recent part of the log cannot be read: nothing came for {RING_LOAD_STALL:?}")
            }
            Err(_) => {
                let (position, of) = (log.head().position.0, head.position.0);
                tracing::info!(position, of, "the recent part of the log is being read");
            }
        }
    }
}

impl Serving {
    /// Starts every station; as one of several instances where there is a `shared` log. When this returns, clients can
    /// connect and the ring is loaded.
    pub(super) async fn start(
        config: &Config,
        store: Arc<dyn Store>,
        shared: Option<Arc<dyn SharedLog>>,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let (begin, head) = match &shared {
            Some(shared) => beginning(&**shared, cache::shares_answers(config)).await?,
            None => {
                let head = store.head().await?;
                (head, head)
            }
        };

        let redis_url = |wrong: RedisAddressError| anyhow::anyhow!("redis.url {wrong}");
        let layers = cache::layers(config, &metrics, tasks).map_err(redis_url)?;
        let log = Log::with_cache(begin, config.queues.ring_bytes, layers.clone(), metrics.clone());
        let rules = Arc::new(ArcSwap::from_pointee(Rules::new(config)));
        let settings = Arc::new(ArcSwap::from_pointee(ConnectionSettings::new(config)));
        let information = Arc::new(ArcSwap::from_pointee(Bytes::from(information::document(config))));
        let bus = || attach_bus(config, &metrics, tasks);
        let links = shared.clone().map(|shared| Ok(ClusterLinks { shared_log: shared, bus: bus()? })).transpose();
        let links = links.map_err(redis_url)?;
        let bus_up = links.as_ref().map(|links| links.bus.publisher.up()).filter(|_| !config.redis.url.is_empty());
        let (ingest, stations) = Ingest::start_clustered(
            store.clone(),
            log.clone(),
            rules.clone(),
            metrics.clone(),
            ingest_settings(config),
            links,
            tasks,
        )?;

        load(&log, head).await?;
        let tcp = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {} (setting `listen`)", config.listen))?;
        let address = tcp.local_addr()?;
        let tls = super::tls::start(config, &metrics, tasks)?;
        let memory = memory::account(config);
        let (sampled_log, sampled_ingest) = (log.clone(), ingest.clone());
        let (sampled_memory, sampled_metrics) = (memory.clone(), metrics.clone());
        let gauges = tasks.spawn_restarting(Task::Gauges, move || {
            let (log, ingest) = (sampled_log.clone(), sampled_ingest.clone());
            gauges::sample(log, ingest, sampled_memory.clone(), sampled_metrics.clone())
        });
        let (trigger, shutdown) = shutdown();
        let queries = match shared {
            Some(shared) => Queries::clustered(store.clone(), log.clone(), shared, metrics.clone()),
            None => Queries::new(store.clone(), log.clone(), metrics.clone()),
        };

        let services = Services {
            ingest,
            queries,
            log,
            rules: rules.clone(),
            settings: settings.clone(),
            information: information.clone(),
            memory,
            shutdown,
            metrics,
            tasks: tasks.clone(),
        };

        let mut listener = Listener::new(tcp, services);
        let tls = tls.map(|(tls, sockets)| {
            for socket in sockets {
                listener.add(socket, Some(tls.service.handshakes()));
            }
            tls
        });
        let listener = tasks.spawn(Task::Listener, listener.run());
        Ok(Self {
            address,
            tls,
            store,
            stations,
            bus_up,
            cache: layers,
            listener,
            gauges,
            trigger,
            rules,
            settings,
            information,
        })
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The part that serves wss, where it is on.
    pub(super) fn tls(&self) -> Option<&RunningTls> {
        self.tls.as_ref()
    }

    /// The cache, where there is one.
    pub(super) fn cache(&self) -> Option<Arc<Cache>> {
        self.cache.clone()
    }

    /// Whether messages of other instances arrive, where there is a bus.
    pub(super) fn bus_up(&self) -> Option<watch::Receiver<bool>> {
        self.bus_up.clone()
    }

    /// Applies the settings that can change while the relay runs.
    pub(super) fn apply(&self, config: &Config) {
        self.rules.store(Arc::new(Rules::new(config)));
        self.settings.store(Arc::new(ConnectionSettings::new(config)));
        self.information.store(Arc::new(Bytes::from(information::document(config))));
        if let Some(tls) = &self.tls {
            tls.service.reload();
        }
    }

    /// Returns the error of the first station that ends though the relay runs. Cancel safe.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.stations.failed() => error.into(),
            _ = &mut self.listener => anyhow::anyhow!("the listener has ended"),
        }
    }

    /// Closes the connections over `time`, finishes the submitted events, and closes the store.
    pub(super) async fn drain(self, time: Duration) -> anyhow::Result<()> {
        self.trigger.drain(time);
        if !self.listener.is_finished() {
            // Ends with the last connection, and drops the last handle through which events are submitted.
            self.listener.await.context("the listener panicked")?;
        }
        self.gauges.abort();
        let _ = self.gauges.await;
        let drained = tokio::time::timeout(FINISH_TIMEOUT, self.stations.drained()).await;
        self.store.close().await;
        drained.context("the stations did not finish in time")??;
        Ok(())
    }
}

fn attach_bus(config: &Config, metrics: &Arc<Metrics>, tasks: &Tasks) -> Result<BusHandle, RedisAddressError> {
    let RedisSettings { url, prefix } = &config.redis;
    if url.is_empty() {
        return Ok(NoBus::attach());
    }
    Ok(RedisBus::attach(RedisAddress::parse(url.expose())?, prefix, metrics.clone(), tasks))
}

fn ingest_settings(config: &Config) -> IngestSettings {
    let ExpirySettings { sweep_interval: interval, grace } = config.expiry;
    let sweep = Sweep { interval, grace, batch: MAX_SWEPT_EVENTS };
    IngestSettings {
        queue: INGEST_QUEUE_EVENTS,
        verify_threads: config.workers.verify_threads(),
        writer: WriterSettings { max_batch: MAX_COMMIT_EVENTS, sweep: (!interval.is_zero()).then_some(sweep) },
    }
}
