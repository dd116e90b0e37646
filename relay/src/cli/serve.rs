//! `relay serve`: settings, log, runtime, then the relay itself.

use crate::app;
use crate::config::{Sources, load};
use crate::telemetry::init_logging;
use std::process::ExitCode;

pub(super) fn run(sources: Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(&sources)?;
    let log = init_logging(&loaded.config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(loaded.config.workers.runtime_threads())
        .thread_name("relay")
        .enable_all()
        .build()?;
    let result = runtime.block_on(app::run(loaded, sources, log));
    // A thread that resolves a host name cannot be cancelled; the exit does not wait for it.
    runtime.shutdown_background();
    result?;
    Ok(ExitCode::SUCCESS)
}
