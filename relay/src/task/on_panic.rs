//! What a panic of each task means.

use crate::telemetry::Task;

/// What a panic of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPanic {
    /// Without it no client is served right: the process says so, is not ready any more, and ends within a second. What
    /// starts it again is the operator's (systemd, Compose); its peers serve its clients meanwhile.
    EndProcess,
    /// It keeps nothing that a new one would miss, and begins again.
    Restart,
    /// It served one client or one call, which sees the end; the others go on.
    Count,
}

impl OnPanic {
    /// The one table of it.
    #[must_use]
    pub fn of(task: Task) -> Self {
        match task {
            // The stations of an event, and who lets clients in. A write that panicked may have left its transaction
            // open, and a checkpoint its connection.
            Task::Admit
            | Task::Verify
            | Task::Write
            | Task::Follow
            | Task::Listener
            | Task::StoreWrite
            | Task::Checkpoint
            | Task::Admin => Self::EndProcess,

            Task::Resubmission
            | Task::BusListen
            | Task::BusSpeak
            | Task::CacheServers
            | Task::CacheLink
            | Task::CacheWrite
            | Task::CachePurges
            | Task::CachePurge
            | Task::Probe
            | Task::Maintenance
            | Task::Gauges
            | Task::ServerGauges
            | Task::MachineGauges
            | Task::Heartbeat
            | Task::Load
            | Task::TlsSelfSigned
            | Task::TlsExpiry
            | Task::Redirect
            | Task::Acme => Self::Restart,

            Task::Connection
            | Task::Refusal
            | Task::Query
            | Task::Pool
            | Task::TlsFiles
            | Task::RedirectConnection
            | Task::AdminConnection
            | Task::Handshake => Self::Count,
        }
    }
}
