//! Builds the relay from its settings and runs it until it is stopped.

mod cache;
mod gauges;
mod information;
mod memory;
mod serving;
mod signals;
mod store;
mod tls;

pub use store::{Opened, postgres_options, sqlite_options};

use crate::admin::{Admin, Health, Load};
use crate::config::{Config, Durability, Loaded, Sources, reload};
use crate::task::Tasks;
use crate::telemetry::{Exporter, LogControl, Metrics, Task};
use serving::Serving;
use signals::{Signal, Signals};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long the relay goes on closing connections after an essential task has panicked.
const FAILED_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs until SIGINT or SIGTERM; SIGHUP reads the `sources` again.
pub async fn run(mut loaded: Loaded, sources: Sources, log: LogControl) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "Skein is starting");
    // An interrupted start may be dropped at any point: every event with an OK is committed.
    let Started { health, admin, mut serving, mut background, tasks } = tokio::select! {
        started = start(&loaded.config) => started?,
        signal = signals.stop() => {
            tracing::info!(signal, "stopped before it was up");
            return Ok(());
        }
    };

    let ended = loop {
        tokio::select! {
            // A panic first: it is also why the station that had it has ended.
            biased;
            task = tasks.failed() => {
                health.set_draining();
                // A station that waits for the dead task never ends: the deadline bounds the drain.
                let _ = tokio::time::timeout(FAILED_TIMEOUT, serving.drain(Duration::ZERO)).await;
                admin.stop();
                anyhow::bail!("the task {} panicked; the lines before say where", task.name());
            }
            signal = signals.next() => match signal {
                Signal::Reload => apply_reload(&mut loaded, &sources, &log, &serving),
                Signal::Stop(name) => {
                    tracing::info!(signal = name, "stopping: connections are asked to leave");
                    break Ok(());
                }
            },
            error = serving.failed() => break Err(error),
        }
    };

    health.set_draining();
    notify(&[sd_notify::NotifyState::Stopping]);
    background.maintenance.abort_all();
    let drained = tokio::select! {
        drained = serving.drain(loaded.config.timeouts.drain) => drained,
        name = signals.stop() => Err(anyhow::anyhow!("{name} came twice: stopped without a goodbye")),
    };
    background.samplers.abort_all();
    admin.stop();
    ended.and(drained)?;
    tracing::info!("stopped");
    Ok(())
}

/// A relay that serves clients.
struct Started {
    health: Arc<Health>,
    admin: Admin,
    serving: Serving,
    background: Background,
    tasks: Tasks,
}

/// Tasks that end with the relay.
#[derive(Default)]
struct Background {
    /// The upkeep of the store; ends before the store stops taking writes.
    maintenance: JoinSet<()>,
    /// Sample the metrics until the relay has ended.
    samplers: JoinSet<()>,
}

/// Starts everything. When this returns, clients can connect.
async fn start(config: &Config) -> anyhow::Result<Started> {
    let exporter = Arc::new(Exporter::new()?);
    let observe = &config.observe;
    // Where metrics are off, the handles count nowhere.
    let metrics = if observe.metrics { exporter.metrics().clone() } else { Arc::new(Metrics::detached()) };
    metrics.journeys.set_percent(observe.sample_percent);
    metrics.notes.log_slower_than(observe.slow_query);
    let health = Health::new();
    let load = Load::new();
    let tasks = Tasks::new(metrics.clone());
    let admin = Admin::start(&config.admin, health.clone(), load.clone(), exporter.clone(), &tasks)?;
    let opened = Opened::open(config, tasks.clone()).await?;
    let mut background = Background::default();
    let samplers = &mut background.samplers;
    if let Some(store) = opened.postgres() {
        let (sampled, health, metrics) = (store.clone(), health.clone(), metrics.clone());
        let sample = move || gauges::sample_servers(sampled.clone(), health.clone(), metrics.clone());
        samplers.spawn(tasks.restarting(Task::ServerGauges, sample));
        let maintain = move || {
            let store = store.clone();
            async move { store.run_maintenance().await }
        };
        background.maintenance.spawn(tasks.restarting(Task::Maintenance, maintain));
    }
    let serving = Serving::start(config, opened.store(), opened.shared_log(), metrics.clone(), &tasks).await?;
    let machine = Arc::new(gauges::Machine {
        disk: disk(config),
        health: health.clone(),
        load: load.clone(),
        sqlite: opened.sqlite(),
        bus: serving.bus_up().map(|up| (config.redis.url.to_string(), up)),
    });
    let beating = health.clone();
    samplers.spawn(tasks.restarting(Task::Heartbeat, move || beating.clone().heartbeat()));
    samplers.spawn(tasks.restarting(Task::MachineGauges, {
        let metrics = metrics.clone();
        move || gauges::sample_machine(machine.clone(), metrics.clone())
    }));
    samplers.spawn(tasks.restarting(Task::Load, move || load.clone().watch()));
    if let Some(cache) = serving.cache() {
        health.set_cache(cache);
    }
    if let Some(store) = opened.postgres() {
        health.set_inspector(move || {
            let store = store.clone();
            Box::pin(async move { store.statistics().await.map_err(|error| error.to_string()) })
        });
    }
    health.set_about(serving.address().to_string(), opened.name());
    if let Some(store) = opened.postgres()
        && !store.warmed().await
    {
        tracing::info!("not all connections to PostgreSQL could be opened beforehand: first answers may take longer");
    }
    health.set_ready();
    log_startup(config, &serving, &admin);
    notify(&[sd_notify::NotifyState::Ready]);
    Ok(Started { health, admin, serving, background, tasks })
}

/// Reads the settings again. If one is wrong, none of them changes.
fn apply_reload(loaded: &mut Loaded, sources: &Sources, log: &LogControl, serving: &Serving) {
    notify(&[sd_notify::NotifyState::Reloading]);
    match reload(loaded, sources) {
        Ok(reloaded) => {
            if let Err(error) = log.set_level(&reloaded.loaded.config.log.level) {
                tracing::error!(%error, "the log level stays as it was");
            }
            serving.apply(&reloaded.loaded.config);
            let (changed, needs_restart) = (reloaded.changed.join(" "), reloaded.needs_restart.join(" "));
            tracing::info!(changed, needs_restart, "settings were read again");
            *loaded = reloaded.loaded;
        }
        Err(problems) => tracing::error!("settings stay as they were:\n{problems}"),
    }
    notify(&[sd_notify::NotifyState::Ready]);
}

/// A folder on the disk that events fill; with PostgreSQL, the working directory.
fn disk(config: &Config) -> PathBuf {
    let here = PathBuf::from(".");
    if config.database.is_postgres() {
        return here;
    }
    config.database.sqlite_path().parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(here, Into::into)
}

/// Notifies systemd, where it runs the relay and asks for it.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// Logs where the relay listens, where it stores events, and what an operator opens next.
fn log_startup(config: &Config, serving: &Serving, admin: &Admin) {
    let version = env!("CARGO_PKG_VERSION");
    let address = serving.address();
    tracing::info!(version, "Skein is up: point a Nostr client at ws://{address}");
    if let Some(tls) = serving.tls() {
        tls.log_startup(config);
    }
    if config.database.is_postgres() {
        tracing::info!(servers = store::names(config), "events are stored in PostgreSQL");
    } else {
        tracing::info!(
            path = %config.database.sqlite_path().display(),
            durability = config.database.durability.name(),
            "events are stored in SQLite"
        );
    }
    if !config.database.is_postgres() && config.database.durability == Durability::Relaxed {
        tracing::warn!(
            "database.durability is \"relaxed\": an OK survives a crash of the relay, but a power cut may cost the \
             last moments"
        );
    }
    cache::log_startup(config);
    let is_public = !config.listen.ip().is_loopback() || !config.proxy.trusted_networks.is_empty();
    if is_public && config.own_urls().next().is_none() {
        tracing::warn!(
            "public_url is empty: clients that reach the relay by a domain name cannot authenticate (NIP-42), since \
             without it an answer that was meant for another relay cannot be told apart"
        );
    }
    match admin.address() {
        Some(admin) => tracing::info!("operators: http://{admin}/ (health, readiness, metrics)"),
        None => tracing::info!("the admin listener is off (admin.listen is empty)"),
    }
}
