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
    /// Where it listens; written empty, `None`: off.
    #[serde(deserialize_with = "values::address_or_off")]
    pub listen: Option<SocketAddr>,
    /// Where it tells a load balancer its weight; written empty, `None`: nowhere.
    #[serde(deserialize_with = "values::address_or_off")]
    pub agent_listen: Option<SocketAddr>,
    /// What a request must carry to change something; empty: nothing can be changed.
    pub token: Secret,
    /// Whether `/debug/pprof` may sample stacks.
    pub pprof: bool,
    /// The admin listeners of the other instances, host and port.
    pub peers: Vec<String>,
}

/// `[info]`: what the relay tells about itself (NIP-11). Empty texts are not told. A reload changes all of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InfoSettings {
    /// The relay's name.
    pub name: String,
    /// What it is for.
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
    /// Another way to the operator.
    pub contact: String,
    /// URL of its terms.
    pub terms_of_service: String,
}

/// `[log]`: what the relay writes to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// A level, or a filter as `tracing_subscriber::EnvFilter` reads it. A reload changes it.
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// For whom log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// `[observe]`: how closely the relay watches itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveSettings {
    /// Whether anything is counted at all.
    pub metrics: bool,
    /// How many journeys of a hundred are timed stage by stage.
    pub sample_percent: u32,
    /// A read in the store that takes longer is told in the log.
    #[serde(rename = "slow_query_seconds", deserialize_with = "values::seconds")]
    pub slow_query: Duration,
}

/// `[workers]`: how many threads work.
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
    /// Threads that check signatures: what was set, or one a core.
    pub fn verify_threads(&self) -> usize {
        or_cores(self.verify_threads_or_zero)
    }

    /// Threads that serve connections: what was set, or one a core.
    pub fn runtime_threads(&self) -> usize {
        or_cores(self.runtime_threads_or_zero)
    }
}

fn or_cores(threads: usize) -> usize {
    if threads == 0 { values::cores() } else { threads }
}

/// `[expiry]`: how expired events leave the disk (NIP-40).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpirySettings {
    /// Between two sweeps; zero: none.
    #[serde(rename = "sweep_interval_seconds", deserialize_with = "values::seconds")]
    pub sweep_interval: Duration,
    /// How long an event has expired before it is swept.
    #[serde(rename = "grace_seconds", deserialize_with = "values::seconds")]
    pub grace: Duration,
}
