//! What an asynchronous promotion has lost, submitted again: in order, removals included, by every instance that still
//! knows it. The store decides duplicates, so it does not matter how many of them do.

use crate::log::Log;
use crate::store::{Store, StoreError};
use crate::types::mechanism::{Mechanism, is_off};
use crate::types::{Change, Filter, Head, LogEntry, RemovalCause, Verified, now};
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts while the new primary takes nothing.
const RETRY: Duration = Duration::from_millis(200);

/// Submits `lost` again, until all of it is stored or the store is closed. Not cancel safe, like every write.
pub(super) async fn run(store: Arc<dyn Store>, log: Arc<Log>, lost: Vec<LogEntry>) {
    if is_off(Mechanism::Resubmission) {
        return;
    }
    tracing::warn!(entries = lost.len(), "a failover has cut off entries of the log: they are submitted again");
    for entry in &lost {
        loop {
            match submit(&*store, entry).await {
                Ok(head) => {
                    // Whoever was told "stored" then is to find it now.
                    if let Some(head) = head {
                        log.acknowledge(head);
                    }
                    break;
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "an entry could not be submitted again yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// One entry. A removal by deletion or by a newer version follows from the event that caused it, which stands in the
/// same entry; one by expiry, from the clock. What the operator removed is removed again.
async fn submit(store: &dyn Store, entry: &LogEntry) -> Result<Option<Head>, StoreError> {
    let inserted = entry.changes.iter().filter_map(|change| match change {
        // It came out of the log, or was on its way into it: its signature was checked.
        Change::Inserted(insertion) => Some(Verified::vouch(insertion.event.clone())),
        Change::Removed(_) => None,
    });
    let batch: Vec<Verified> = inserted.collect();
    let mut head = None;
    if !batch.is_empty() {
        head = Some(store.append(batch, now()).await?.head);
    }
    let removed = entry.changes.iter().filter_map(|change| match change {
        Change::Removed(removal) if removal.cause == RemovalCause::Administered => Some(removal.id()),
        _ => None,
    });
    let ids: Box<[_]> = removed.collect();
    if !ids.is_empty() && !is_off(Mechanism::ResubmittedRemovals) {
        let max = ids.len();
        head = Some(store.remove(&Filter { ids: Some(ids), ..Filter::default() }, max).await?.head);
    }
    Ok(head)
}
