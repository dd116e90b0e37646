//! `[database]`: where events are kept.

use super::redacted::Redacted;
use super::values;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[database]`: where events are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// One `sqlite:` URL.
    pub urls: Vec<Redacted>,
    /// What an OK promises.
    pub durability: Durability,
    /// Connections that read; 0: [`read_connections`](Self::read_connections) chooses.
    #[serde(rename = "read_connections")]
    pub read_connections_or_zero: u32,
    /// The longest one query may run.
    #[serde(rename = "statement_timeout_seconds", deserialize_with = "values::seconds")]
    pub statement_timeout: Duration,
    /// The longest a query waits for a free connection.
    #[serde(rename = "pool_wait_seconds", deserialize_with = "values::seconds")]
    pub pool_wait: Duration,
}

impl Database {
    /// How many connections read: what was set, or twice the number of cores, at least 4.
    pub fn read_connections(&self) -> usize {
        match self.read_connections_or_zero {
            0 => (2 * values::cores()).clamp(4, 1024),
            set => set as usize,
        }
    }

    /// The file that the `sqlite:` URL names, relative to the working directory. Validation has seen to it that there
    /// is exactly one such URL.
    pub fn sqlite_path(&self) -> PathBuf {
        let url = self.urls.first().map_or("", |url| url.expose());
        let path = url.strip_prefix("sqlite:").unwrap_or(url);
        PathBuf::from(path.strip_prefix("//").unwrap_or(path))
    }
}

/// What an OK promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The event survives a power cut: the disk has confirmed it (SQLite's `synchronous=FULL`).
    Full,
    /// The event survives a crash of the relay: the operating system has it. A power cut may take the last moments,
    /// never consistency (SQLite's `synchronous=NORMAL`).
    Relaxed,
}

impl Durability {
    /// As it is written in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Relaxed => "relaxed",
        }
    }
}
