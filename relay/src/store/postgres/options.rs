//! The options of a store on PostgreSQL.

use super::planner::Thresholds;
use crate::config::{KindRetention, Redacted};
use crate::task::Tasks;
use std::time::Duration;

/// How a store on PostgreSQL is opened. [`Options::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// One URL for each server, in any order: the store finds out which of them is the primary, and keeps finding out.
    pub urls: Vec<Redacted>,
    /// Connections to the primary. Default: 5 to 20.
    pub primary_connections: Connections,
    /// Connections to each replica. Default: 10 to 50.
    pub replica_connections: Connections,
    /// Reads that may use the primary at the same time where no replica can serve them. Default: 8. A single server
    /// serves as many as it has connections, less two that are for writing.
    pub primary_reads: u32,
    /// The longest that opening a connection, or one probe of a server, may take. Default: 2 s.
    pub connect_timeout: Duration,
    /// A connection above the minimum is closed after this long without work. Default: 30 s.
    pub idle_timeout: Duration,
    /// A connection is replaced at this age. Default: 1 h.
    pub connection_lifetime: Duration,
    /// The longest that a statement may run on the primary, before `StoreError::Timeout`. Default: 30 s.
    pub primary_statement_timeout: Duration,
    /// The longest that a statement may run on a replica, before `StoreError::Timeout`. Default: 10 s.
    pub replica_statement_timeout: Duration,
    /// The longest that a call waits for a server and a connection, before `StoreError::Overloaded`. Default: 5 s.
    pub acquire_timeout: Duration,
    /// How often each server is probed. Default: 200 ms.
    pub probe_interval: Duration,
    /// A replica that is further behind the primary serves no reads. Default: 10 s.
    pub max_replica_lag: Duration,
    /// How often an instance maintains the partitions, or tries to become the leader. Default: 60 s.
    pub maintenance_interval: Duration,
    /// Whole days of the log that are kept. Default: 7.
    pub log_days: u32,
    /// Whole months, by `created_at`, that events are kept; 0: for ever. Replaceable events and deletion requests
    /// always stay. Default: 0.
    pub retention_months: u32,
    /// Kinds that are kept for fewer days, replaceable ones too; deletion requests stay. Default: none.
    pub retention_kinds: Vec<KindRetention>,
    /// Instances that share the servers, for the warning about `max_connections`; 0: as many as the server sees.
    /// Default: 0.
    pub instances: u32,
    /// The planner's thresholds. Default: as measured; tests set others.
    pub thresholds: Thresholds,
    /// Watches the tasks of the store. Default: of their own.
    pub tasks: Tasks,
}

/// The number of connections of this instance to one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// This many are kept open.
    pub min: u32,
    /// No more than this are opened.
    pub max: u32,
}

impl Options {
    /// The defaults, for the servers at `urls`.
    pub fn new(urls: impl IntoIterator<Item = Redacted>) -> Self {
        Self {
            urls: urls.into_iter().collect(),
            primary_connections: Connections { min: 5, max: 20 },
            replica_connections: Connections { min: 10, max: 50 },
            primary_reads: 8,
            connect_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(30),
            connection_lifetime: Duration::from_secs(3_600),
            primary_statement_timeout: Duration::from_secs(30),
            replica_statement_timeout: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(5),
            probe_interval: Duration::from_millis(200),
            max_replica_lag: Duration::from_secs(10),
            maintenance_interval: Duration::from_secs(60),
            log_days: 7,
            retention_months: 0,
            retention_kinds: Vec::new(),
            instances: 0,
            thresholds: Thresholds::default(),
            tasks: Tasks::detached(),
        }
    }
}
