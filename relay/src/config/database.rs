//! `[database]` and `[postgres]`: where events are stored.

use super::redacted::Redacted;
use super::retention::KindRetention;
use super::values;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[database]`: where events are stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// One `sqlite:` URL, or one `postgres://` URL a server.
    pub urls: Vec<Redacted>,
    /// What an OK promises.
    pub durability: Durability,
    /// Connections for reads; 0: [`read_connections`](Self::read_connections) chooses.
    #[serde(rename = "read_connections")]
    pub read_connections_or_zero: u32,
    /// The longest one query may run.
    #[serde(rename = "statement_timeout_seconds", deserialize_with = "values::seconds")]
    pub statement_timeout: Duration,
    /// The longest a query waits for a free connection.
    #[serde(rename = "pool_wait_seconds", deserialize_with = "values::seconds")]
    pub pool_wait: Duration,
}

impl DatabaseSettings {
    /// The number of connections for reads: the setting, or twice the number of cores, at least 4.
    pub fn read_connections(&self) -> usize {
        match self.read_connections_or_zero {
            0 => (2 * values::cores()).clamp(4, 1024),
            set => set as usize,
        }
    }

    /// True where the URLs name PostgreSQL servers.
    pub fn is_postgres(&self) -> bool {
        self.urls.first().is_some_and(|url| is_postgres(url.expose()))
    }

    /// The file that the `sqlite:` URL names, relative to the working directory. Validation has checked that there is
    /// exactly one such URL, unless the store [is PostgreSQL](Self::is_postgres).
    pub fn sqlite_path(&self) -> PathBuf {
        let url = self.urls.first().map_or("", |url| url.expose());
        let path = url.strip_prefix("sqlite:").unwrap_or(url);
        PathBuf::from(path.strip_prefix("//").unwrap_or(path))
    }
}

/// True for a URL that names a PostgreSQL server.
pub(super) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// `[postgres]`: the servers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    /// Connections to the primary that are kept open.
    pub primary_connections_min: u32,
    /// The most connections to the primary.
    pub primary_connections_max: u32,
    /// Connections to each replica that are kept open.
    pub replica_connections_min: u32,
    /// The most connections to each replica.
    pub replica_connections_max: u32,
    /// How many queries may fall back to the primary at the same time.
    pub primary_reads: u32,
    /// The longest that opening a connection may take.
    #[serde(rename = "connect_timeout_seconds", deserialize_with = "values::seconds")]
    pub connect_timeout: Duration,
    /// How long a connection above the minimum may be idle.
    #[serde(rename = "idle_timeout_seconds", deserialize_with = "values::seconds")]
    pub idle_timeout: Duration,
    /// The age at which a connection is closed and replaced.
    #[serde(rename = "connection_lifetime_seconds", deserialize_with = "values::seconds")]
    pub connection_lifetime: Duration,
    /// The longest that one statement may run on the primary.
    #[serde(rename = "primary_statement_timeout_seconds", deserialize_with = "values::seconds")]
    pub primary_statement_timeout: Duration,
    /// How far behind a replica may be and still serve.
    #[serde(rename = "max_replica_lag_seconds", deserialize_with = "values::seconds")]
    pub max_replica_lag: Duration,
    /// How many whole days the shared log goes back.
    pub log_days: u32,
    /// How many whole months events are kept; 0: for ever.
    pub retention_months: u32,
    /// Kinds that are kept for a shorter time.
    pub retention_kinds: Vec<KindRetention>,
    /// How many instances share the servers; 0: the number that the database shows.
    pub instances: u32,
}

/// What an OK promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The event survives a power cut: the disk has confirmed it (SQLite's `synchronous=FULL`).
    Full,
    /// The event survives a crash of the relay: the operating system has it. A power cut may lose the last commits, but
    /// never damages the database (SQLite's `synchronous=NORMAL`).
    Relaxed,
}

impl Durability {
    /// The value in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Relaxed => "relaxed",
        }
    }
}
