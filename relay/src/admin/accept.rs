//! Accepts connections on the admin thread.

use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// The pause after a failed accept, so that a lack of descriptors does not make a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts the next connection. Logs a failure with the listener's `name`, and tries again. Cancel safe.
pub(super) async fn accept(listener: &TcpListener, name: &str) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "the {name} listener could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
