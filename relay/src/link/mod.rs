//! Connections to Redis, wherever it is: one server, the master that Sentinels name, the masters of a Cluster. A leaf,
//! for the bus and the shared cache both need them; each owns its loop of connecting again, since the client library's
//! ways of doing so give up or go deaf.

mod backoff;
mod connect;
mod layout;
mod open;

pub use backoff::Backoff;
pub use connect::connect;
pub use layout::{Layout, slot};
pub use open::{Node, open};

use std::time::Duration;

/// For a connection to stand, and for every answer that has no shorter limit.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// What the server, or the way to it, says.
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    /// The Sentinels do not know the name.
    #[error("no Sentinel knows a master of this name")]
    NoMaster,
    /// The Cluster is not whole.
    #[error("no node of the Cluster answers for the key")]
    NoShard,
    /// None of the addresses answered.
    #[error("no server is named")]
    NoNode,
}
