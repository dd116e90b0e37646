//! Finds the server of a key and connects to it.

use super::LinkError;
use super::layout::Layout;
use super::open::open;
use crate::config::RedisAddress;
use redis::PushInfo;
use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc;

/// Connects to the server that carries `key` now. With `pushes`, messages of subscriptions go there, as far as there is
/// room; others are dropped.
///
/// # Errors
/// No server is named or reached, or none carries `key`.
pub async fn connect(
    address: &RedisAddress,
    key: &str,
    pushes: Option<mpsc::Sender<PushInfo>>,
) -> Result<MultiplexedConnection, LinkError> {
    let layout = Layout::find(address).await?;
    open(address, layout.node_of(key.as_bytes()).ok_or(LinkError::NoShard)?, pushes).await
}
