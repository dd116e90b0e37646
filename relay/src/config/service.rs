//! `[admin]`, `[info]`, `[log]`, `[observe]`, `[workers]` and `[expiry]`: how the relay presents itself and does its
//! own work.

use super::redacted::Secret;
use super::values;
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

/// `[admin]`: the listener for operators.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// The address of the pages; written empty, `None`: off.
    #[serde(deserialize_with = "values::address_or_off")]
    pub listen: Option<SocketAddr>,
    /// The address on which a load balancer can ask for the weight; written empty, `None`: off.
    #[serde(deserialize_with = "values::address_or_off")]
    pub agent_listen: Option<SocketAddr>,
    /// The token that a request must carry to change something; empty: requests cannot change anything.
    pub token: Secret,
    /// Whether `/debug/pprof` may sample stacks.
    pub pprof: bool,
    /// The admin listeners of the other instances, host and port.
    pub peers: Vec<String>,
}

/// `[info]`: the relay's description of itself (NIP-11). Empty texts are left out. A reload changes all of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InfoSettings {
    /// The relay's name.
    pub name: String,
    /// The purpose of the relay.
    pub description: String,
    /// URL of a wide picture.
    pub banner: String,
    /// URL of a square picture.
    pub icon: String,
    /// The operator's public key, 64 lowercase hex digits.
    #[serde(deserialize_with = "values::pubkey_or_empty")]
    pub pubkey: String,
    /// The relay's own public key, 64 lowercase hex digits; `self` in NIP-11.
    #[serde(rename = "self", deserialize_with = "values::pubkey_or_empty")]
    pub own_pubkey: String,
    /// Another way to reach the operator.
    pub contact: String,
    /// URL of its terms.
    pub terms_of_service: String,
}

/// `[log]`: the log on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// A level, or a filter as `tracing_subscriber::EnvFilter` reads it. A reload changes it.
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// The readers for whom log lines are formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// `[observe]`: how much the relay measures.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveSettings {
    /// Whether the relay counts anything at all.
    pub metrics: bool,
    /// How many percent of the journeys are timed stage by stage.
    pub sample_percent: u32,
    /// A read of the store that takes longer is logged.
    #[serde(rename = "slow_query_seconds", deserialize_with = "values::seconds")]
    pub slow_query: Duration,
}

/// `[workers]`: how many threads the relay starts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSettings {
    /// Threads that check signatures; 0: [`verify_threads`](Self::verify_threads) chooses.
    #[serde(rename = "verify_threads")]
    pub verify_threads_or_zero: usize,
    /// Threads that serve connections; 0: [`runtime_threads`](Self::runtime_threads) chooses.
    #[serde(rename = "runtime_threads")]
    pub runtime_threads_or_zero: usize,
}

impl WorkerSettings {
    /// Threads that check signatures: the setting, or one a core.
    pub fn verify_threads(&self) -> usize {
        or_cores(self.verify_threads_or_zero)
    }

    /// Threads that serve connections: the setting, or one a core.
    pub fn runtime_threads(&self) -> usize {
        or_cores(self.runtime_threads_or_zero)
    }
}

fn or_cores(threads: usize) -> usize {
    if threads == 0 { values::cores() } else { threads }
}

/// `[expiry]`: when expired events are removed (NIP-40).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpirySettings {
    /// The time between two sweeps; zero: no sweeps.
    #[serde(rename = "sweep_interval_seconds", deserialize_with = "values::seconds")]
    pub sweep_interval: Duration,
    /// How long after its expiration an event is removed.
    #[serde(rename = "grace_seconds", deserialize_with = "values::seconds")]
    pub grace: Duration,
}
