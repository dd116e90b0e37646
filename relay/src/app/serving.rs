//! The running stations, from the listener to the store, and their orderly end.

use super::{gauges, information};
use crate::config::Config;
use crate::connection::{ConnectionSettings, Listener, Services, ShutdownTrigger, shutdown};
use crate::ingest::{Ingest, IngestSettings, Stations, WriterSettings};
use crate::log::Log;
use crate::policy::Rules;
use crate::query::Queries;
use crate::store::Store;
use crate::telemetry::Metrics;
use anyhow::Context;
use arc_swap::ArcSwap;
use hyper::body::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Events that may wait before each station: a few commits' worth.
const INGEST_QUEUE: usize = 2_048;

/// The most events in one commit. Larger ones only add latency; 128 measured the same.
const MAX_BATCH: usize = 512;

/// Expired events that one commit removes.
const SWEEP_BATCH: usize = 500;

/// How long the stations may take to finish what they have, once the connections are gone.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Serving {
    address: SocketAddr,
    store: Arc<dyn Store>,
    stations: Stations,
    listener: JoinHandle<()>,
    gauges: JoinHandle<()>,
    trigger: ShutdownTrigger,
    rules: Arc<ArcSwap<Rules>>,
    settings: Arc<ArcSwap<ConnectionSettings>>,
    information: Arc<ArcSwap<Bytes>>,
}

impl Serving {
    /// Starts everything. When this returns, clients can connect.
    pub(super) async fn start(config: &Config, store: Arc<dyn Store>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let log = Log::new(store.head().await?, config.queues.ring_bytes, metrics.clone());
        let rules = Arc::new(ArcSwap::from_pointee(Rules::new(config)));
        let settings = Arc::new(ArcSwap::from_pointee(ConnectionSettings::new(config)));
        let information = Arc::new(ArcSwap::from_pointee(Bytes::from(information::document(config))));
        let (ingest, stations) =
            Ingest::start(store.clone(), log.clone(), rules.clone(), metrics.clone(), ingest_settings(config))?;
        let tcp = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {} (setting `listen`)", config.listen))?;
        let address = tcp.local_addr()?;
        let gauges = tokio::spawn(gauges::sample(log.clone(), ingest.clone(), metrics.clone()));
        let (trigger, shutdown) = shutdown();
        let services = Services {
            ingest,
            queries: Queries::new(store.clone(), log.clone(), metrics.clone()),
            log,
            rules: rules.clone(),
            settings: settings.clone(),
            information: information.clone(),
            shutdown,
            metrics,
        };
        let listener = tokio::spawn(Listener::new(tcp, services).run());
        Ok(Self { address, store, stations, listener, gauges, trigger, rules, settings, information })
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts what can change while the relay runs in force.
    pub(super) fn apply(&self, config: &Config) {
        self.rules.store(Arc::new(Rules::new(config)));
        self.settings.store(Arc::new(ConnectionSettings::new(config)));
        self.information.store(Arc::new(Bytes::from(information::document(config))));
    }

    /// Returns once a station has ended that should not. Cancel safe.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.stations.failed() => error.into(),
            _ = &mut self.listener => anyhow::anyhow!("the listener has ended"),
        }
    }

    /// Sees the connections off over `time`, finishes what was handed in, and closes the store.
    pub(super) async fn drain(self, time: Duration) -> anyhow::Result<()> {
        self.trigger.drain(time);
        if !self.listener.is_finished() {
            // Ends once the last connection has; with it the last door to the stations closes.
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

fn ingest_settings(config: &Config) -> IngestSettings {
    let sweep_interval = Some(config.expiry.sweep_interval).filter(|interval| !interval.is_zero());
    IngestSettings {
        queue: INGEST_QUEUE,
        verify_threads: config.workers.verify_threads(),
        writer: WriterSettings { max_batch: MAX_BATCH, sweep_interval, sweep_batch: SWEEP_BATCH },
    }
}
