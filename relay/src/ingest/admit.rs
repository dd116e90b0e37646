//! The first station: it refuses events by the rules of policy, then answers known events as duplicates. So a refused
//! event costs no look-up, and a known event costs no signature check.

use super::order::ChunkSender;
use super::recent::RecentEphemeral;
use super::{Submission, is_ephemeral};
use crate::log::Log;
use crate::policy::{self, Rules};
use crate::store::{Store, StoreError};
use crate::telemetry::Stage;
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, EventId, Head, Refusal, Verdict, now};
use arc_swap::ArcSwap;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The most events that one look-up covers.
const MAX_GROUP: usize = 256;

/// How long the look-up may take. It only saves signature checks, since the writer decides what is a duplicate. So
/// readers that occupy the store's connections keep no event from being stored.
const KNOWN_IDS_TIMEOUT: Duration = Duration::from_millis(200);

/// How many events go to a CPU worker at once: enough to make the hand-over cheap, few enough to share the work.
pub(super) const EVENTS_PER_CHUNK: usize = 16;

/// The station: the parts by which it decides, and the channel for the events that it admits.
pub(super) struct Admission {
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Arc<Log>,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) recent: Arc<RecentEphemeral>,
    pub(super) chunks: ChunkSender,
}

impl Admission {
    /// Admits the submissions in their order, until every sender of `inbox` is dropped.
    pub(super) async fn run(self, mut inbox: mpsc::Receiver<Submission>) {
        let mut group = Vec::with_capacity(MAX_GROUP);
        while inbox.recv_many(&mut group, MAX_GROUP).await > 0 {
            group.iter_mut().for_each(|submission: &mut Submission| submission.passed(Stage::EventQueue));

            // The rules before the look-up: a client that may not publish must not learn which events are known.
            let allowed = allowed(&self.rules.load(), group.drain(..));
            let unknown = self.without_known(allowed).await;

            let mut unknown = unknown.into_iter();
            loop {
                let mut chunk = Vec::with_capacity(EVENTS_PER_CHUNK.min(unknown.len()));
                chunk.extend(unknown.by_ref().take(EVENTS_PER_CHUNK));
                if chunk.is_empty() {
                    break;
                }
                chunk.iter_mut().for_each(|submission: &mut Submission| submission.passed(Stage::EventAdmit));
                self.chunks.send(chunk).await;
            }
        }
    }

    /// Answers the submissions of stored events, as far as the store knows them in time, and returns the others in
    /// their order. The signature of a known event was checked when it came first.
    async fn without_known(&self, group: Vec<Submission>) -> Vec<Submission> {
        let is_stored = |submission: &&Submission| !is_ephemeral(&submission.event);
        let ids: Vec<_> = group.iter().filter(is_stored).map(|submission| submission.event.id()).collect();
        let found = if ids.is_empty() { Ok(None) } else { self.known(&ids).await };
        let (known, refusal) = match found {
            Ok(known) => (known, None),
            Err(refusal) => (None, Some(refusal)),
        };

        let mut unknown = Vec::with_capacity(group.len());
        for submission in group {
            let id = submission.event.id();
            let is_known = match is_ephemeral(&submission.event) {
                true => self.recent.contains(&id),
                false => known.as_ref().is_some_and(|known| known.contains(&id)),
            };
            match &refusal {
                _ if is_known => submission.answer(Verdict::Duplicate),
                Some(refusal) if is_stored(&&submission) => submission.refuse(refusal.clone()),
                _ => unknown.push(submission),
            }
        }
        unknown
    }

    /// Which of `ids` are stored; `None` where the store does not answer in time.
    async fn known(&self, ids: &[EventId]) -> Result<Option<FxHashSet<EventId>>, Refusal> {
        let look = timeout(KNOWN_IDS_TIMEOUT, self.store.known(ids, self.log.floor()));
        match look.await.unwrap_or(Err(StoreError::Overloaded)) {
            Ok((known, head)) => {
                let known: FxHashSet<_> =
                    ids.iter().zip(known).filter(|(_, known)| *known).map(|(id, _)| *id).collect();
                if known.is_empty() {
                    return Ok(Some(known));
                }
                let Some(gone) = gone_since(&self.log, head) else { return Ok(None) };
                // Their clients get an OK as duplicate, so from now on queries must find these events.
                self.log.acknowledge(head);
                Ok(Some(known.difference(&gone).copied().collect()))
            }
            Err(StoreError::Overloaded) => Ok(None),
            Err(error) => {
                tracing::error!(%error, "cannot look up which events are known");
                Err(Refusal::from(&error))
            }
        }
    }
}

/// Refuses the submissions that a rule does not allow, and returns the others in their order.
fn allowed(rules: &Rules, group: impl Iterator<Item = Submission>) -> Vec<Submission> {
    let now = now();
    let mut allowed = Vec::with_capacity(group.size_hint().0);
    for submission in group {
        match policy::check(&submission.event, rules, &submission.access, now) {
            Ok(()) => allowed.push(submission),
            Err(refusal) => submission.refuse(refusal),
        }
    }
    allowed
}

/// The events that the log has removed after `head`, the position of the look-up: a replica may lag, and a client that
/// sends a removed event again must not be told that it is stored. `None`: the ring does not reach back to `head`.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ingest::InFlight;
    use crate::ingest::order::in_order;
    use crate::memory::ClientMemory;
    use crate::outbox::{Outbox, OutboxLimits};
    use crate::store::MemoryStore;
    use crate::telemetry::Metrics;
    use crate::types::safeguard::without;
    use crate::types::{Access, Event, Kind, LogEntry, PublicKey, Removal, RemovalCause, Verified};

    /// Whether an event goes on to the writer that the log has removed while a lagging server still has it.
    async fn sent_again() -> bool {
        let event = Arc::new(Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(1), &[], "", |_| [7; 64]));
        let lagging = Arc::new(MemoryStore::default());
        let head = lagging.append(vec![Verified::vouch(event.clone())], 1).await.unwrap().head;
        let metrics = Arc::new(Metrics::detached());
        let log = Log::new(head, 1 << 20, metrics.clone());
        let (workers, _) = mpsc::channel(1);
        let admission = Admission {
            store: lagging,
            log: log.clone(),
            rules: Arc::default(),
            recent: Arc::default(),
            chunks: in_order(workers, 1).0,
        };

        let submission = || Submission {
            event: event.clone(),
            access: Access::default(),
            outbox: Outbox::new(
                OutboxLimits { max_events: 9, max_bytes: usize::MAX },
                ClientMemory::unbounded().connect(),
            ),
            metrics: metrics.clone(),
            received_at: std::time::Instant::now(),
            trace: None,
            in_flight: InFlight::start(&Arc::default()),
        };

        assert!(admission.without_known(vec![submission()]).await.is_empty(), "it is there");
        let removal = Removal { event: event.clone(), cause: RemovalCause::Administered };
        log.apply(&LogEntry::new(head.position.next(), vec![Change::Removed(removal)])).unwrap();
        !admission.without_known(vec![submission()]).await.is_empty()
    }

    #[test]
    fn what_was_removed_may_come_again_whatever_a_lagging_replica_has() {
        let run =
            || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(sent_again());
        assert!(run());
        assert!(!without(Some(Safeguard::KnownRemovals), run), "control: it is said to be there");
    }
}
