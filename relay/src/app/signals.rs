//! The signals of the operating system.

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
pub(super) enum Signal {
    /// SIGHUP: read the settings again.
    Reload,
    /// SIGTERM or SIGINT, by name: stop.
    Stop(&'static str),
}

/// Listens for SIGHUP, SIGTERM and SIGINT.
pub(super) struct Signals {
    hangup: Stream,
    terminate: Stream,
    interrupt: Stream,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next request. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Signal::Stop("SIGINT"),
        }
    }

    /// The next request to stop, by name. SIGHUP is left for [`next`](Self::next). Cancel safe.
    pub(super) async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
