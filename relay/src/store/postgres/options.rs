//! What an operator may set about a store on PostgreSQL.

use super::planner::Thresholds;
use crate::config::{KindRetention, Redacted};
use std::time::Duration;

/// How a store on PostgreSQL is opened. [`Options::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// One URL a server, in any order: which of them is the primary is found out, again and again.
    pub urls: Vec<Redacted>,
    /// Connections to the primary. Default: 5 to 20.
    pub primary_connections: Connections,
    /// Connections to each replica. Default: 10 to 50.
    pub replica_connections: Connections,
    /// How many reads may use the primary at the same time because no replica could serve them. Default: 8. A single
    /// server serves as many as it has connections, but for two that writing may always have.
    pub primary_reads: u32,
    /// The longest that opening a connection, or asking a server how it is, may take. Default: 2 s.
    pub connect_timeout: Duration,
    /// A connection above the least number is closed after so long without work. Default: 30 s.
    pub idle_timeout: Duration,
    /// A connection is renewed after so long. Default: 1 h.
    pub connection_lifetime: Duration,
    /// The longest that a statement may run on the primary: `StoreError::Timeout`. Default: 30 s.
    pub primary_statement_timeout: Duration,
    /// The longest that a statement may run on a replica: `StoreError::Timeout`. Default: 10 s.
    pub replica_statement_timeout: Duration,
    /// How long a call waits for a server and a connection: `StoreError::Overloaded`. Default: 5 s.
    pub acquire_timeout: Duration,
    /// How often each server is asked how it is. Default: 200 ms.
    pub probe_interval: Duration,
    /// A replica that is further behind the primary serves nothing. Default: 10 s.
    pub max_replica_lag: Duration,
    /// How often the keeper looks after the partitions, or stands for election. Default: 60 s.
    pub maintenance_interval: Duration,
    /// The log keeps what is no more than so many whole days old. Default: 7.
    pub log_days: u32,
    /// Events are kept for so many whole months by their created_at, for ever where 0; but what is replaceable and
    /// requests for deletion always stay. Default: 0.
    pub retention_months: u32,
    /// Kinds that are kept for less, replaceable ones too; requests for deletion stay. Default: none.
    pub retention_kinds: Vec<KindRetention>,
    /// How many instances share the servers, for the warning about `max_connections`; 0: as many as are seen there.
    /// Default: 0.
    pub instances: u32,
    /// Where the planner prefers one way to another. Default: as measured; tests set others.
    pub thresholds: Thresholds,
}

/// How many connections one server may have from this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// As many are kept open.
    pub min: u32,
    /// More are never opened.
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
        }
    }
}
