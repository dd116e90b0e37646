//! The primary's head, read once for all queries that wait for it. A query that waits for that head sees what its
//! client wrote through another instance.

use crate::log::Log;
use crate::store::SharedLog;
use crate::types::Head;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// A primary that takes longer counts as down.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The primary's head, read for many queries at a time: queries that come while a request is under way wait for the
/// next request, which serves all of them. The one under way may have read the head before they came.
pub(super) struct Primary {
    shared: Arc<dyn SharedLog>,
    /// How many requests have begun.
    begun: AtomicU64,
    last: Mutex<HeadRequest>,
}

/// The last request that has ended.
#[derive(Default)]
struct HeadRequest {
    number: u64,
    head: Option<Head>,
}

impl Primary {
    pub(super) fn new(shared: Arc<dyn SharedLog>) -> Self {
        Self { shared, begun: AtomicU64::new(0), last: Mutex::default() }
    }

    /// The primary's head at a moment after this call; `None` where it cannot be read. Cancel safe.
    pub(super) async fn head(&self, log: &Log) -> Option<Head> {
        if !log.is_primary_reachable() {
            // The follower keeps trying; no query needs to wait for the timeout as well.
            return None;
        }
        let begun = self.begun.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        // A request with a greater number began after this call, so its answer is new enough.
        if last.number <= begun {
            let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let answer = tokio::time::timeout(TIMEOUT, self.shared.shared_head()).await;
            *last = HeadRequest { number, head: answer.ok().and_then(Result::ok).map(|shared| shared.head) };
        }
        last.head
    }
}
