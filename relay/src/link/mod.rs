//! Connections to Redis in each of its topologies: one server, the master that Sentinels name, the masters of a
//! Cluster. A leaf that the bus and the shared cache share. Each of them has its own loop of reconnecting, since the
//! client library's ways of doing so give up or go silent.

mod backoff;
mod connect;
mod layout;
mod open;

pub use backoff::Backoff;
pub use connect::connect;
pub use layout::{Layout, slot};
pub use open::{RedisNode, open};

use std::time::Duration;

/// The longest wait for a connection, and for an answer without a shorter limit of its own.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server, or the way to it, reports an error.
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    /// The Sentinels do not know the master's name.
    #[error("no Sentinel knows a master of this name")]
    NoMaster,
    /// No node of the Cluster carries the key's slot.
    #[error("no node of the Cluster answers for the key")]
    NoShard,
    /// The address names no server.
    #[error("no server is named")]
    NoNode,
}
