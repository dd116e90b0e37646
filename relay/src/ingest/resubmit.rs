//! What an asynchronous promotion has lost, submitted again: in order, removals included, by every instance that still
//! knows it. The store decides duplicates, so it does not matter how many of them do.

use super::follow::News;
use crate::log::Log;
use crate::store::{Appended, Store, StoreError};
use crate::types::mechanism::{Mechanism, is_off};
use crate::types::{Change, EventId, Filter, LogEntry, RemovalCause, Verified, now};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two attempts while the new primary takes nothing.
const RETRY: Duration = Duration::from_millis(200);

/// Submits `lost` again, until all of it is stored or the store is closed. Not cancel safe, like every write.
/// What comes of it goes to the follower as the own writer's entries do: so the next failover does not lose it.
pub(crate) async fn run(store: Arc<dyn Store>, log: Arc<Log>, lost: Vec<LogEntry>, follow: mpsc::WeakSender<News>) {
    if is_off(Mechanism::Resubmission) {
        return;
    }
    tracing::warn!(entries = lost.len(), "a failover has cut off entries of the log: they are submitted again");
    let removed = removed_by_the_operator(&lost);
    for entry in &lost {
        loop {
            match submit(&*store, entry, &removed).await {
                Ok(done) => {
                    for appended in done {
                        // Whoever was told "stored" then is to find it now.
                        log.acknowledge(appended.head);
                        hand_on(appended, &follow).await;
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
    tracing::info!(entries = lost.len(), "what the failover had cut off is stored again");
}

async fn hand_on(appended: Appended, follow: &mpsc::WeakSender<News>) {
    // Without a writer the relay is stopping, and nobody follows any more.
    let Some(follow) = follow.upgrade().filter(|_| !appended.changes.is_empty()) else { return };
    let entry = LogEntry::new(appended.head.position, appended.changes);
    let _ = follow.send(News::Entry(appended.head.epoch, entry)).await;
}

/// The operator's removals leave nothing behind that would keep an event out: what they concern is not to come back in
/// between.
fn removed_by_the_operator(lost: &[LogEntry]) -> HashSet<EventId> {
    let removals = lost.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
        Change::Removed(removal) if removal.cause == RemovalCause::Administered => Some(removal.id()),
        _ => None,
    });
    removals.filter(|_| !is_off(Mechanism::ResubmittedRemovals)).collect()
}

/// One entry. A removal by deletion or by a newer version follows from the event that caused it, which stands in the
/// same entry; one by expiry, from the clock. What the operator removed is removed again.
async fn submit(store: &dyn Store, entry: &LogEntry, removed: &HashSet<EventId>) -> Result<Vec<Appended>, StoreError> {
    let inserted = entry.changes.iter().filter_map(|change| match change {
        // It came out of the log, or was on its way into it: its signature was checked.
        Change::Inserted(insertion) if !removed.contains(&insertion.event.id()) => {
            Some(Verified::vouch(insertion.event.clone()))
        }
        _ => None,
    });
    let batch: Vec<Verified> = inserted.collect();
    let mut done = Vec::new();
    if !batch.is_empty() {
        done.push(store.append(batch, now()).await?);
    }
    let ids = entry.changes.iter().filter_map(|change| match change {
        Change::Removed(removal) if removed.contains(&removal.id()) => Some(removal.id()),
        _ => None,
    });
    let ids: Box<[_]> = ids.collect();
    if !ids.is_empty() {
        let max = ids.len();
        done.push(store.remove(&Filter { ids: Some(ids), ..Filter::default() }, max).await?);
    }
    Ok(done)
}
