//! Opens the store that the settings name.

use crate::config::Config;
use crate::store::postgres::{self, Connections, PostgresStore};
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{SharedLog, Store};
use crate::task::Tasks;
use anyhow::Context;
use std::sync::Arc;
use std::time::Duration;

/// How long a statement of an operator's command may take: a day.
const OPERATOR_STATEMENT_TIMEOUT: Duration = Duration::from_secs(86_400);

/// An open store.
pub enum Opened {
    /// One file, one process.
    Sqlite(Arc<SqliteStore>),
    /// Servers that several instances share.
    Postgres(Arc<PostgresStore>),
}

impl Opened {
    /// Opens what the settings name; its schema is up to date then.
    ///
    /// # Errors
    /// The store's error with the database's name, never with its password.
    pub async fn open(config: &Config, tasks: Tasks) -> anyhow::Result<Self> {
        if config.database.is_postgres() {
            let store = PostgresStore::open(postgres::Options { tasks, ..postgres_options(config) }).await;
            let store = store.with_context(|| format!("cannot open {}", names(config)))?;
            return Ok(Self::Postgres(Arc::new(store)));
        }
        let options = sqlite::Options { tasks, ..sqlite_options(config) };
        let path = options.path.display().to_string();
        let store = SqliteStore::open(options).await.with_context(|| format!("cannot open the database {path}"))?;
        Ok(Self::Sqlite(Arc::new(store)))
    }

    /// [`open`](Self::open) for an operator's command, whose statements may concern the whole store: the timeouts of
    /// clients' statements do not apply to them.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn open_for_operator(config: &Config) -> anyhow::Result<Self> {
        let mut config = config.clone();
        config.database.statement_timeout = OPERATOR_STATEMENT_TIMEOUT;
        config.postgres.primary_statement_timeout = OPERATOR_STATEMENT_TIMEOUT;
        Self::open(&config, Tasks::detached()).await
    }

    /// The store, whichever it is.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// The kind of store, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// The store, if it is SQLite.
    pub fn sqlite(&self) -> Option<Arc<SqliteStore>> {
        match self {
            Self::Sqlite(store) => Some(store.clone()),
            Self::Postgres(_) => None,
        }
    }

    /// The log that the store shares with other instances; `None` for SQLite.
    pub fn shared_log(&self) -> Option<Arc<dyn SharedLog>> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store.clone()),
        }
    }

    /// The store, if it is PostgreSQL.
    pub fn postgres(&self) -> Option<Arc<PostgresStore>> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store.clone()),
        }
    }
}

/// The options of a SQLite store.
pub fn sqlite_options(config: &Config) -> sqlite::Options {
    let database = &config.database;
    sqlite::Options {
        readers: database.read_connections(),
        durability: database.durability,
        read_timeout: database.statement_timeout,
        acquire_timeout: database.pool_wait,
        ..sqlite::Options::new(database.sqlite_path())
    }
}

/// The options of a store on PostgreSQL.
pub fn postgres_options(config: &Config) -> postgres::Options {
    let (database, settings) = (&config.database, &config.postgres);
    postgres::Options {
        primary_connections: Connections {
            min: settings.primary_connections_min,
            max: settings.primary_connections_max,
        },
        replica_connections: Connections {
            min: settings.replica_connections_min,
            max: settings.replica_connections_max,
        },
        primary_reads: settings.primary_reads,
        connect_timeout: settings.connect_timeout,
        idle_timeout: settings.idle_timeout,
        connection_lifetime: settings.connection_lifetime,
        primary_statement_timeout: settings.primary_statement_timeout,
        replica_statement_timeout: database.statement_timeout,
        acquire_timeout: database.pool_wait,
        max_replica_lag: settings.max_replica_lag,
        retention_months: settings.retention_months,
        retention_kinds: settings.retention_kinds.clone(),
        log_days: settings.log_days,
        instances: settings.instances,
        ..postgres::Options::new(database.urls.iter().cloned())
    }
}

/// The URLs of the databases without their passwords.
pub(super) fn names(config: &Config) -> String {
    config.database.urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
