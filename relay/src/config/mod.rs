//! Every setting. A leaf: stations take the part that concerns them.
//!
//! `relay.example.toml` is the one place where settings are documented and where defaults stand; it is embedded, and
//! its values are what [`Config::default`] reads. The structs here say only what type a setting has, so that a
//! setting missing on either side cannot be overlooked: reading the defaults would fail.
//!
//! A setting is named by one rule: `section.key` is `RELAY_SECTION_KEY` in the environment and `--section-key`
//! on the command line.

mod access;
mod cache;
mod check;
mod database;
mod document;
mod error;
mod limits;
mod load;
mod memory;
mod protocol;
mod redacted;
mod redis;
mod reference;
mod reload;
mod retention;
mod service;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;
mod tls;
mod validate;
mod validate_tls;
mod values;

pub use access::{AccessRules, ProxySettings};
pub use cache::CacheSettings;
pub use database::{DatabaseSettings, Durability, PostgresSettings};
pub use document::{Document, EXAMPLE, Section, Setting};
pub use error::{Problem, Problems};
pub use limits::{Limits, Queues, Timeouts};
pub use load::{Effective, Loaded, load};
pub use memory::MemorySettings;
pub use protocol::ProtocolSettings;
pub use redacted::{Redacted, Secret, redact};
pub use redis::{RedisAddress, RedisAddressError, RedisSettings, RedisTopology, percent_decode};
pub use reference::reference;
pub use reload::{Reload, reload};
pub use retention::KindRetention;
pub use service::{
    AdminSettings, ExpirySettings, InfoSettings, LogFormat, LogSettings, ObserveSettings, WorkerSettings,
};
pub use sources::{Origin, Sources};
pub use tls::TlsSettings;
pub use validate::validate;
pub use values::{KindSet, cores, parse_pubkey};

use serde::Deserialize;
use std::net::SocketAddr;

/// What the relay runs with. `relay.example.toml` says what each setting does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    #[serde(deserialize_with = "values::address")]
    pub listen: SocketAddr,
    /// The relay's address as clients know it; may be empty.
    pub public_url: String,
    /// Further addresses of the relay.
    pub public_urls: Vec<String>,
    /// The listener for operators.
    pub admin: AdminSettings,
    /// Where events are kept.
    pub database: DatabaseSettings,
    /// The servers of a cluster.
    pub postgres: PostgresSettings,
    /// The Redis that the relays of one cluster share.
    pub redis: RedisSettings,
    /// Which answers are kept in memory.
    pub cache: CacheSettings,
    /// What one client may ask for.
    pub limits: Limits,
    /// Which proposals and extensions of the protocol are on.
    pub protocol: ProtocolSettings,
    /// How much may wait in memory.
    pub queues: Queues,
    /// How much memory clients may take.
    pub memory: MemorySettings,
    /// How long the relay waits for a client.
    pub timeouts: Timeouts,
    /// Where clients connect by wss.
    pub tls: TlsSettings,
    /// What stands in front of the relay.
    pub proxy: ProxySettings,
    /// Who may do what.
    pub access: AccessRules,
    /// What the relay tells about itself.
    pub info: InfoSettings,
    /// What it writes to standard error.
    pub log: LogSettings,
    /// How closely it watches itself.
    pub observe: ObserveSettings,
    /// How many threads work.
    pub workers: WorkerSettings,
    /// How expired events leave the disk.
    pub expiry: ExpirySettings,
}

impl Config {
    /// The addresses of the relay that the operator has set: `public_url` first, then `public_urls`.
    pub fn own_urls(&self) -> impl Iterator<Item = &str> {
        let first = Some(self.public_url.as_str()).filter(|url| !url.is_empty());
        first.into_iter().chain(self.public_urls.iter().map(String::as_str))
    }
}

impl Default for Config {
    /// The values in `relay.example.toml`.
    fn default() -> Self {
        Document::embedded().defaults().try_into().expect("a test holds the embedded settings against the structs")
    }
}
