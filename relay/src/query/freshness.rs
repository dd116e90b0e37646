//! Where the primary stands, asked once for all who wait: so that a client reads through this instance what it wrote
//! through another.

use crate::log::Log;
use crate::store::SharedLog;
use crate::types::Head;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// A primary that takes longer counts as down.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The primary's head, read for many at a time: while one question is under way, whoever comes waits for the next one,
/// which is asked for all of them.
pub(super) struct Primary {
    shared: Arc<dyn SharedLog>,
    /// How many questions have begun.
    begun: AtomicU64,
    last: Mutex<HeadRequest>,
}

/// The last request for the head that came to an end.
#[derive(Default)]
struct HeadRequest {
    number: u64,
    head: Option<Head>,
}

impl Primary {
    pub(super) fn new(shared: Arc<dyn SharedLog>) -> Self {
        Self { shared, begun: AtomicU64::new(0), last: Mutex::default() }
    }

    /// Where the primary stands, at a moment after this call; `None` where it cannot be asked. Cancel safe.
    pub(super) async fn head(&self, log: &Log) -> Option<Head> {
        if !log.is_primary_reachable() {
            // The follower keeps asking; nobody else needs to wait for the answer that does not come.
            return None;
        }
        let begun = self.begun.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if last.number <= begun {
            let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let answer = tokio::time::timeout(TIMEOUT, self.shared.shared_head()).await;
            *last = HeadRequest { number, head: answer.ok().and_then(Result::ok).map(|shared| shared.head) };
        }
        last.head
    }
}
