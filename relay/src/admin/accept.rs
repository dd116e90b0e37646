//! Accepts connections on the admin thread.

use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long to wait after a failed accept, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The next connection. A failure is logged under the listener's `name`, and accepting goes on. Cancel safe.
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
