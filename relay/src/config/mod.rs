//! Every setting. A leaf: a station takes the section that it needs.
//!
//! `relay.example.toml` documents each setting and holds its default. It is embedded, and [`Config::default`] reads it.
//! The structs here only say what type a setting has. A setting that is missing on either side cannot go unnoticed:
//! reading the defaults would fail.
//!
//! One rule names a setting in every source: `section.key` is `RELAY_SECTION_KEY` in the environment and
//! `--section-key` on the command line.

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

/// All settings of a running relay. `relay.example.toml` says what each does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address on which the relay listens for clients.
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
    /// The most that one client may ask for.
    pub limits: Limits,
    /// Which proposals and extensions of the protocol are on.
    pub protocol: ProtocolSettings,
    /// How much may wait in memory.
    pub queues: Queues,
    /// How much memory clients may take.
    pub memory: MemorySettings,
    /// How long the relay waits for a client.
    pub timeouts: Timeouts,
    /// The listener for wss, and its certificates.
    pub tls: TlsSettings,
    /// The proxies in front of the relay.
    pub proxy: ProxySettings,
    /// Who may do what.
    pub access: AccessRules,
    /// The relay's description of itself for clients.
    pub info: InfoSettings,
    /// The log on standard error.
    pub log: LogSettings,
    /// How much the relay measures.
    pub observe: ObserveSettings,
    /// How many threads the relay starts.
    pub workers: WorkerSettings,
    /// When expired events are removed.
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
