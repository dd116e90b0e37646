//! HAProxy's agent check: whoever connects is told, in one line, how much of its share this instance wants.

use super::load::Load;
use super::server::ACCEPT_PAUSE;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Never ends.
///
/// "up" is needed once for a server that was added at run time, and makes no broken one up: `/ready` decides that. The
/// words that change what an operator decided ("ready", "drain", "maint") are never said.
pub(super) async fn serve(listener: TcpListener, load: Arc<Load>) {
    loop {
        match listener.accept().await {
            // So few bytes always fit; where they do not, the client has gone.
            Ok((stream, _)) => {
                let _ = stream.writable().await;
                let _ = stream.try_write(format!("up {}%\n", load.weight_percent()).as_bytes());
            }
            Err(error) => {
                tracing::warn!(%error, "the agent listener could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
