//! HAProxy's agent check: each connection gets one line with the weight that this instance asks for.

use super::accept::accept;
use super::load::Load;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves the agent check. Never ends.
///
/// A server that was added at run time needs one "up". The word brings no failed server back: `/ready` decides that.
/// The words that override an operator's decision ("ready", "drain", "maint") are never sent.
pub(super) async fn serve(listener: TcpListener, load: Arc<Load>) {
    loop {
        let stream = accept(&listener, "agent").await;
        // A line this short fits into any socket's buffer; where it does not, the client has gone.
        let _ = stream.writable().await;
        let _ = stream.try_write(format!("up {}%\n", load.weight_percent()).as_bytes());
    }
}
