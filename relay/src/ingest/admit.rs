//! The first station: what is known needs no signature check; what policy refuses needs none either.

use super::{Job, Submission};
use crate::log::Log;
use crate::policy::{self, Rules};
use crate::store::{Store, StoreError};
use crate::telemetry::Stage;
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, EventId, Head, KindClass, Refusal, Verdict, now};
use arc_swap::ArcSwap;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How many events one look at the store covers.
const GROUP: usize = 256;

/// How long a look may take. It only saves signature checks: the writer decides what is a duplicate. So no crowd of
/// readers, for whom the store's connections are, keeps events from being stored.
const KNOWN_IDS_TIMEOUT: Duration = Duration::from_millis(200);

/// How many events go to a CPU worker at once: enough to make the hand-over cheap, few enough to share the work.
pub(super) const CHUNK: usize = 16;

pub(super) async fn run(
    store: Arc<dyn Store>,
    log: Arc<Log>,
    rules: Arc<ArcSwap<Rules>>,
    mut inbox: mpsc::Receiver<Submission>,
    verify: mpsc::Sender<Vec<Job>>,
) {
    let mut group = Vec::with_capacity(GROUP);
    while inbox.recv_many(&mut group, GROUP).await > 0 {
        group.iter_mut().for_each(|submission: &mut Submission| submission.passed(Stage::EventQueue));
        let unknown = without_known(&*store, &log, std::mem::take(&mut group)).await;
        let rules = rules.load_full();
        let now = now();
        let mut chunk = Vec::with_capacity(CHUNK);
        for mut submission in unknown {
            submission.passed(Stage::EventAdmit);
            match policy::check(&submission.event, &rules, &submission.access, now) {
                Ok(()) => chunk.push(Job::Submitted(submission)),
                Err(refusal) => submission.refuse(refusal),
            }
            if chunk.len() == CHUNK {
                hand_over(&verify, std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK))).await;
            }
        }
        if !chunk.is_empty() {
            hand_over(&verify, chunk).await;
        }
    }
}

/// Answers those that are already stored, as far as the store says so soon, and returns the others. A known id was
/// verified when it came first.
async fn without_known(store: &dyn Store, log: &Log, group: Vec<Submission>) -> Vec<Submission> {
    let (stored, unstored): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|submission| submission.event.kind().class() != KindClass::Ephemeral);
    if stored.is_empty() {
        return unstored;
    }
    let ids: Vec<_> = stored.iter().map(|submission| submission.event.id()).collect();
    let mut unknown = unstored;
    match timeout(KNOWN_IDS_TIMEOUT, store.known(&ids, log.floor())).await.unwrap_or(Err(StoreError::Overloaded)) {
        Ok((known, head)) => {
            let gone = if known.contains(&true) { gone_since(log, head) } else { None };
            for (submission, known) in stored.into_iter().zip(known) {
                if known && gone.as_ref().is_some_and(|gone| !gone.contains(&submission.event.id())) {
                    log.acknowledge(head);
                    submission.answer(Verdict::Duplicate);
                } else {
                    unknown.push(submission);
                }
            }
        }
        Err(StoreError::Overloaded) => unknown.extend(stored),
        Err(error) => {
            tracing::error!(%error, "cannot look up which events are known");
            let refusal = Refusal::from(&error);
            stored.into_iter().for_each(|submission| submission.refuse(refusal.clone()));
        }
    }
    unknown
}

/// What the log has removed after `head`, at which the store knew what it knew: a replica may lag, and whoever sends again what
/// was removed is not to be told that it is there. `None`: the log here does not say.
fn gone_since(log: &Log, head: Head) -> Option<FxHashSet<EventId>> {
    let here = log.head();
    if ablated(Safeguard::KnownRemovals) || head.epoch == here.epoch && head.position >= here.position {
        return Some(FxHashSet::default());
    }
    let tail = log.tail(head).ok()?;
    let removed = |change: &Change| match change {
        Change::Removed(removal) => Some(removal.id()),
        Change::Inserted(_) => None,
    };
    Some(tail.entries.iter().flat_map(|entry| entry.changes.iter().filter_map(removed)).collect())
}

async fn hand_over(verify: &mpsc::Sender<Vec<Job>>, chunk: Vec<Job>) {
    if let Err(mpsc::error::SendError(chunk)) = verify.send(chunk).await {
        for job in chunk {
            if let Job::Submitted(submission) = job {
                submission.refuse(Refusal::ShuttingDown);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ingest::InFlight;
    use crate::outbox::{Outbox, OutboxLimits};
    use crate::store::MemoryStore;
    use crate::telemetry::Metrics;
    use crate::types::safeguard::without;
    use crate::types::{Access, Event, Kind, LogEntry, PublicKey, Removal, RemovalCause, Verified};

    /// Whether an event goes on to the writer that the log has removed, while the server that is asked still has it.
    async fn sent_again() -> bool {
        let event = Arc::new(Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(1), &[], "", |_| [7; 64]));
        let lagging = Arc::new(MemoryStore::default());
        let head = lagging.append(vec![Verified::vouch(event.clone())], 1).await.unwrap().head;
        let metrics = Arc::new(Metrics::detached());
        let log = Log::new(head, 1 << 20, metrics.clone());
        let submission = || Submission {
            event: event.clone(),
            access: Access::default(),
            outbox: Outbox::new(OutboxLimits { max_events: 9, max_bytes: usize::MAX }),
            metrics: metrics.clone(),
            received_at: std::time::Instant::now(),
            trace: None,
            in_flight: InFlight::start(&Arc::default()),
        };
        assert!(without_known(&*lagging, &log, vec![submission()]).await.is_empty(), "it is there");
        let removal = Removal { event: event.clone(), cause: RemovalCause::Administered };
        log.apply(&LogEntry::new(head.position.next(), vec![Change::Removed(removal)])).unwrap();
        !without_known(&*lagging, &log, vec![submission()]).await.is_empty()
    }

    #[test]
    fn what_was_removed_may_come_again_whatever_a_lagging_replica_has() {
        let run =
            || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(sent_again());
        assert!(run());
        assert!(!without(Some(Safeguard::KnownRemovals), run), "control: it is said to be there");
    }
}
