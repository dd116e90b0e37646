//! Builds the relay from its settings and runs it until it is told to stop.

mod gauges;
mod information;
mod serving;
mod signals;

use crate::admin::{Admin, Health};
use crate::config::{Config, Durability, Loaded, Sources, reload};
use crate::store::sqlite::{Options, SqliteStore};
use crate::telemetry::{Exporter, LogControl};
use anyhow::Context;
use serving::Serving;
use signals::{Signal, Signals};
use std::sync::Arc;

/// Runs until SIGINT or SIGTERM; SIGHUP reads the `sources` again.
pub async fn run(mut loaded: Loaded, sources: Sources, log: LogControl) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let exporter = Arc::new(Exporter::new()?);
    let health = Health::new();
    let admin = Admin::start(loaded.config.admin.listen, health.clone(), exporter.clone())?;
    let store = open_store(&loaded.config).await?;
    let mut serving = Serving::start(&loaded.config, store, None, exporter.metrics().clone()).await?;
    let heartbeat = tokio::spawn(health.clone().heartbeat());
    health.started();
    greet(&loaded.config, &serving, &admin);
    notify(&[sd_notify::NotifyState::Ready]);

    let ended = loop {
        tokio::select! {
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

    health.drain();
    notify(&[sd_notify::NotifyState::Stopping]);
    let drained = tokio::select! {
        drained = serving.drain(loaded.config.timeouts.drain) => drained,
        Signal::Stop(name) = signals.stop_again() => Err(anyhow::anyhow!("{name} came twice: stopped without a goodbye")),
    };
    heartbeat.abort();
    admin.stop();
    ended.and(drained)?;
    tracing::info!("stopped");
    Ok(())
}

async fn open_store(config: &Config) -> anyhow::Result<Arc<SqliteStore>> {
    let options = store_options(config);
    let path = options.path.display().to_string();
    let store = SqliteStore::open(options).await.with_context(|| format!("cannot open the database {path}"))?;
    Ok(Arc::new(store))
}

/// What the settings say about the embedded store. The commands for an operator's data use it too.
pub fn store_options(config: &Config) -> Options {
    let database = &config.database;
    Options {
        readers: database.read_connections(),
        durability: database.durability,
        read_timeout: database.statement_timeout,
        acquire_timeout: database.pool_wait,
        ..Options::new(database.sqlite_path())
    }
}

/// Reads the settings again. Where anything is wrong, everything stays as it was.
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

/// Tells systemd, where it asks.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// The start-up message: where the relay listens, where it stores, what to open next.
fn greet(config: &Config, serving: &Serving, admin: &Admin) {
    let version = env!("CARGO_PKG_VERSION");
    let address = serving.address();
    tracing::info!(version, "Skein is up: point a Nostr client at ws://{address}");
    tracing::info!(
        path = %config.database.sqlite_path().display(),
        durability = config.database.durability.name(),
        "events are stored in SQLite"
    );
    if config.database.durability == Durability::Relaxed {
        tracing::warn!(
            "database.durability is \"relaxed\": an OK survives a crash of the relay, but a power cut may cost the \
             last moments"
        );
    }
    match admin.address() {
        Some(admin) => tracing::info!("operators: http://{admin}/ (health, readiness, metrics)"),
        None => tracing::info!("the admin listener is off (admin.listen is empty)"),
    }
}
