//! HAProxy's agent check: each connection gets one line that says how much of its share this instance wants.

use super::accept::accept;
use super::load::Load;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Never ends.
///
/// "up" is needed once for a server that was added at run time, and brings no failed server back: `/ready` decides
/// that. The words that override an operator's decision ("ready", "drain", "maint") are never sent.
pub(super) async fn serve(listener: TcpListener, load: Arc<Load>) {
    loop {
        let stream = accept(&listener, "agent").await;
        // So few bytes fit into any socket's buffer; where they do not, the client has gone.
        let _ = stream.writable().await;
        let _ = stream.try_write(format!("up {}%\n", load.weight_percent()).as_bytes());
    }
}
