//! What an asynchronous promotion has lost, submitted again: in order, removals included, by every instance that still
//! knows it. The store decides duplicates, so it does not matter how many of them do.

use super::follower_input::FollowerInput;
use crate::log::Log;
use crate::store::{Appended, Store, StoreError};
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, EventId, Filter, LogEntry, RemovalCause, Verified};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two attempts while the new primary refuses.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// About how many changes are submitted at once; the last entry may bring more. Each commit waits for a disk, and an
/// instance may know thousands of entries.
const CHANGES_PER_GROUP: usize = 256;

/// Submits `lost` again, until all of it is stored or the store is closed. Not cancel safe, like every write.
/// What comes of it goes to the follower as the own writer's entries do: so the next failover does not lose it.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    log: Arc<Log>,
    lost: Vec<LogEntry>,
    follow: mpsc::WeakSender<FollowerInput>,
) {
    if ablated(Safeguard::Resubmission) {
        return;
    }
    tracing::warn!(entries = lost.len(), "a failover has cut off entries of the log: they are submitted again");
    let removed = removed_by_the_operator(&lost);
    for group in groups(&lost) {
        loop {
            match submit(&*store, group, &removed).await {
                Ok(done) => {
                    for appended in done {
                        // A client that has got an OK for such an event must find it now.
                        log.acknowledge(appended.head);
                        send_to_follower(appended, &follow).await;
                    }
                    break;
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, entries = group.len(), "entries could not be submitted again yet");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }
    tracing::info!(entries = lost.len(), "what the failover had cut off is stored again");
}

/// `lost` in pieces of about [`CHANGES_PER_GROUP`] changes. A removal by the operator ends a piece: within a piece,
/// events come first.
fn groups(mut lost: &[LogEntry]) -> impl Iterator<Item = &[LogEntry]> {
    std::iter::from_fn(move || {
        let mut changes = 0;
        let last = lost.iter().position(|entry| {
            changes += entry.changes.len();
            changes >= CHANGES_PER_GROUP || entry.changes.iter().any(is_the_operators)
        });
        let (group, rest) = lost.split_at(last.map_or(lost.len(), |at| at + 1));
        lost = rest;
        (!group.is_empty()).then_some(group)
    })
}

fn is_the_operators(change: &Change) -> bool {
    matches!(change, Change::Removed(removal) if removal.cause == RemovalCause::Administered)
}

async fn send_to_follower(appended: Appended, follow: &mpsc::WeakSender<FollowerInput>) {
    // Without a writer the relay is stopping: then the follower needs no more entries.
    let Some(follow) = follow.upgrade().filter(|_| !appended.changes.is_empty()) else { return };
    let entry = LogEntry::new(appended.head.position, appended.changes);
    let _ = follow.send(FollowerInput::Entry(appended.head.epoch, entry)).await;
}

/// The ids of events that the operator has removed. A removal by the operator leaves no tombstone, so these events are
/// left out here: else they would come back until the removal is submitted again.
fn removed_by_the_operator(lost: &[LogEntry]) -> HashSet<EventId> {
    let removals = lost.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
        Change::Removed(removal) if is_the_operators(change) => Some(removal.id()),
        _ => None,
    });
    removals.filter(|_| !ablated(Safeguard::ResubmittedRemovals)).collect()
}

/// Submits the events of some entries, in their order. A removal by deletion or by a newer version follows from the
/// event that caused it, which is in the same entry; a removal by expiry, from the clock. The operator's removals are
/// made again.
async fn submit(
    store: &dyn Store,
    entries: &[LogEntry],
    removed: &HashSet<EventId>,
) -> Result<Vec<Appended>, StoreError> {
    let changes = || entries.iter().flat_map(|entry| entry.changes.iter());
    let inserted = changes().filter_map(|change| match change {
        // It came out of the log, or was on its way into it: its signature was checked.
        Change::Inserted(insertion) if !removed.contains(&insertion.event.id()) => {
            Some(Verified::vouch(insertion.event.clone()))
        }
        _ => None,
    });

    let batch: Vec<Verified> = inserted.collect();
    let mut done = Vec::new();
    if !batch.is_empty() {
        done.push(store.append(batch, store.now().await?).await?);
    }
    let ids = changes().filter_map(|change| match change {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Position;

    #[test]
    fn every_entry_is_in_one_group_and_in_its_place() {
        let entry = |n: usize| LogEntry::new(Position(n as u64), vec![change(n); n % 90]);
        for count in [0, 1, 8, 100] {
            let lost: Vec<LogEntry> = (1..=count).map(entry).collect();
            let groups: Vec<&[LogEntry]> = groups(&lost).collect();
            let positions = |entries: &[LogEntry]| entries.iter().map(|entry| entry.position).collect::<Vec<_>>();
            assert_eq!(positions(&groups.concat()), positions(&lost));
            let changes = |group: &[LogEntry]| group.iter().map(|entry| entry.changes.len()).sum::<usize>();
            let full = groups.iter().take(groups.len().saturating_sub(1));
            assert!(
                full.into_iter().all(|group| (CHANGES_PER_GROUP..CHANGES_PER_GROUP + 90).contains(&changes(group))),
                "{count}"
            );
        }
    }

    fn change(n: usize) -> Change {
        let author = crate::types::PublicKey::from_bytes([1; 32]);
        let event = crate::types::Event::build(author, n as i64, crate::types::Kind(1), &[], "", |_| [0; 64]);
        Change::Inserted(crate::types::Insertion::new(Arc::new(event)))
    }
}
