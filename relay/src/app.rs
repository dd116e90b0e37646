//! Builds the relay from its settings and runs it until it is told to stop.

use crate::admin::{Admin, Health};
use crate::config::{Live, Loaded, Sources, reload};
use crate::telemetry::{Exporter, LogControl};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Runs until SIGINT or SIGTERM; SIGHUP reads the `sources` again.
pub async fn run(mut loaded: Loaded, sources: Sources, log: LogControl) -> anyhow::Result<()> {
    let live = Live::new(loaded.config.clone());
    let exporter = Arc::new(Exporter::new()?);
    let health = Health::new();
    let admin = Admin::start(loaded.config.admin.listen, health.clone(), exporter)?;
    if let Some(address) = admin.address() {
        tracing::info!(%address, "the admin listener is up");
    }
    tokio::spawn(health.clone().heartbeat());
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    health.started();
    loop {
        tokio::select! {
            _ = hangup.recv() => match reload(&loaded, &sources) {
                Ok(reloaded) => {
                    let (changed, needs_restart) = (&reloaded.changed, &reloaded.needs_restart);
                    tracing::info!(?changed, ?needs_restart, "settings were read again");
                    loaded = reloaded.loaded;
                    log.set_level(&loaded.config.log.level)?;
                    live.set(loaded.config.clone());
                }
                Err(problems) => tracing::error!("settings stay as they were:\n{problems}"),
            },
            _ = terminate.recv() => break,
            result = tokio::signal::ctrl_c() => break result?,
        }
    }
    health.drain();
    admin.stop();
    Ok(())
}
