//! What a client is owed that sends nothing more: it goes out before the connection ends.

use super::connection::Connection;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;

/// How long a client that sends nothing more is still served. Most commits and queries take milliseconds; the answer of
/// one that takes longer is not sent.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

impl Connection<'_> {
    /// Sends the answers that the client still waits for: the OK of each event that it published, and, where its
    /// subscriptions are open, the answer to each query. Reads nothing. Ends after [`SETTLE_TIMEOUT`] at the latest.
    pub(super) async fn settle(&mut self) {
        let settled = poll_fn(|cx| {
            self.outbox.watch(cx.waker());
            self.resume(cx);
            // Before the write: an answer is in the outbox before its event or query counts as over.
            let is_owed_nothing = self.pending_step.is_none() && self.session.is_settled();
            match self.write(cx) {
                Ok(true) if is_owed_nothing => Poll::Ready(()),
                Ok(_) => Poll::Pending,
                // The client has gone.
                Err(_) => Poll::Ready(()),
            }
        });
        // In time or not, the connection ends.
        let _ = timeout(SETTLE_TIMEOUT, settled).await;
    }
}
