//! The log as this instance knows it: the ring of recent entries, the local head, and the delivery to subscriptions.
//!
//! One task applies entries in order ([`Log::apply`]); all others read. Locks are taken in the order matcher →
//! subscription → outbox, and subscription → ring. The ring's lock is innermost and short.

pub mod bus;
mod delivery;
#[cfg(test)]
mod ephemeral_tests;
#[cfg(test)]
mod epoch_tests;
mod ring;
mod ring_index;
#[cfg(test)]
mod ring_index_tests;
mod sequencer;
#[cfg(test)]
mod tests;

pub use ring::{EntryFate, Hole};
pub use sequencer::{FollowTimings, Sequencer, Step};

use crate::cache::Cache;
use crate::matcher::{Matcher, MatcherStats};
use crate::outbox::{RingGeneration, Subscription};
use crate::store::SharedHead;
use crate::telemetry::Metrics;
use crate::types::{Change, Epoch, Event, EventId, Filter, Head, Insertion, LogEntry, Position};
use parking_lot::{Mutex, RwLock};
use ring::Ring;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// What the ring has after a position.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Every entry after the position, without holes.
    pub entries: Vec<LogEntry>,
    /// The local head: the position of the last entry, or the caller's own where there is none.
    pub head: Head,
}

/// The ring no longer reaches back to the requested position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log no longer reaches back that far")]
pub struct OutOfReach;

/// The follower has stopped: the relay is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is closed")]
pub struct LogClosed;

/// The end of the log in memory, and its subscribers.
pub struct Log {
    ring: RwLock<Ring>,
    matcher: Mutex<Matcher<Arc<Subscription>>>,
    head: watch::Sender<Head>,
    acknowledged: Mutex<Head>,
    /// Events that a failover has cut off after their delivery, and the generation that delivered them. When such an
    /// event is stored again, the subscriptions that had it do not get it twice.
    cut_off: RwLock<FxHashMap<EventId, RingGeneration>>,
    /// Whether the follower's last read of the shared log succeeded.
    primary_reachable: AtomicBool,
    /// Cached answers, which the log keeps exact.
    cache: Option<Arc<Cache>>,
    metrics: Arc<Metrics>,
}

/// The contents of the ring, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingFacts {
    /// The position before the oldest entry.
    pub floor: Position,
    /// The local head.
    pub head: Position,
    /// About how many bytes the entries take.
    pub bytes: usize,
}

impl Log {
    /// A log that continues after `head`. Its ring keeps about `ring_bytes` of recent entries.
    pub fn new(head: Head, ring_bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Self::with_cache(head, ring_bytes, None, metrics)
    }

    /// A log that also keeps `cache` exact.
    pub fn with_cache(head: Head, ring_bytes: usize, cache: Option<Arc<Cache>>, metrics: Arc<Metrics>) -> Arc<Self> {
        if let Some(cache) = &cache {
            cache.flush(head);
        }
        Arc::new(Self {
            ring: RwLock::new(Ring::new(head, ring_bytes)),
            matcher: Mutex::new(Matcher::new()),
            head: watch::Sender::new(head),
            acknowledged: Mutex::new(head),
            cut_off: RwLock::default(),
            primary_reachable: AtomicBool::new(true),
            cache,
            metrics,
        })
    }

    /// Applies the next entry to the ring, the head, the subscriptions that it concerns, and the cache. One task calls
    /// it, in order. An entry that was applied before is ignored.
    ///
    /// # Errors
    /// [`Hole`]: the entry would leave a hole; nothing was applied.
    pub fn apply(&self, entry: &LogEntry) -> Result<(), Hole> {
        let generation = {
            let mut ring = self.ring.write();
            if !ring.push(entry)? {
                return Ok(());
            }
            ring.generation()
        };
        self.head.send_modify(|head| head.position = entry.position);
        self.deliver(entry, generation);
        if let Some(cache) = &self.cache {
            cache.apply(entry);
        }
        Ok(())
    }

    /// Switches to the epoch that follows the present one, as `to` describes it. Returns the entries of the old epoch
    /// that the new one lacks, oldest first: the caller submits them again. Subscriptions go on; one that is still
    /// behind in the part that was cut off is closed when it catches up. The task that applies calls it.
    pub fn switch_epoch(&self, to: SharedHead) -> Vec<LogEntry> {
        let (cut_off, whole, generation, head) = {
            let mut ring = self.ring.write();
            let generation = ring.generation();
            let (cut_off, whole) = ring.switch_epoch(to.head.epoch, to.base);
            (cut_off, whole, generation, ring.head())
        };
        {
            let mut known = self.cut_off.write();
            // An event that was cut off two generations ago has been stored again by now, or never will be.
            known.retain(|_, before| before.0 + 1 >= generation.0);
            let inserted = cut_off.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
                Change::Inserted(insertion) => Some((insertion.event.id(), generation)),
                Change::Removed(_) => None,
            });
            known.extend(inserted);
        }

        self.begin_epoch(head);
        if !whole {
            // Part of what was cut off has left the ring, so it is unknown which subscription has had what.
            self.close_all();
        }
        cut_off
    }

    /// Continues after the head of `to`, without the entries between: empties the ring and closes every subscription
    /// with a reason. The task that applies calls it.
    pub fn restart(&self, to: SharedHead) {
        let head = to.head;
        self.ring.write().restart(to);
        self.cut_off.write().clear();
        self.begin_epoch(head);
        self.close_all();
    }

    fn begin_epoch(&self, head: Head) {
        if let Some(cache) = &self.cache {
            cache.flush(head);
        }
        {
            let mut acknowledged = self.acknowledged.lock();
            // The writer may have acknowledged an entry of the new epoch already.
            if acknowledged.epoch != head.epoch {
                *acknowledged = head;
            }
        }
        self.head.send_replace(head);
    }

    /// Delivers an ephemeral event to the subscriptions that are live now, and returns their number. The event gets no
    /// position and is stored nowhere.
    pub fn broadcast(&self, event: Arc<Event>) -> u64 {
        let insertion = Insertion::new(event);
        let (mut delivered, mut dropped) = (0, 0);
        self.matcher.lock().for_each_match(&insertion.event, |subscription| {
            let count = if subscription.offer_ephemeral(&insertion) { &mut delivered } else { &mut dropped };
            *count += 1;
        });
        self.metrics.deliveries.increment(delivered);
        self.metrics.ephemeral_dropped.increment(dropped);
        delivered
    }

    /// The cache that the log keeps exact.
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref()
    }

    /// The local head.
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// Waits until the local head includes `wanted`, or until a failover has made that impossible: then
    /// [`tail`](Self::tail) reports it. Cancel safe.
    ///
    /// # Errors
    /// [`LogClosed`]: the follower has stopped.
    pub async fn reach(&self, wanted: Head) -> Result<Head, LogClosed> {
        let mut head = self.head.subscribe();
        let over = |head: &Head| {
            if head.epoch == wanted.epoch {
                return head.position >= wanted.position;
            }
            match self.fate(wanted) {
                // Of an earlier epoch, which has this position in common with the present one. The local head may not
                // have reached it yet.
                EntryFate::InLog => head.position >= wanted.position,
                EntryFate::CutOff | EntryFate::Undecidable => true,
                EntryFate::UnknownEpoch => false,
            }
        };
        head.wait_for(over).await.map(|head| *head).map_err(|_| LogClosed)
    }

    /// Notes that a client got its OK for something at `head`. From now on a REQ on this instance waits until the local
    /// head is there: everyone reads their own writes.
    pub fn acknowledge(&self, head: Head) {
        let mut acknowledged = self.acknowledged.lock();
        if acknowledged.epoch == head.epoch {
            acknowledged.position = acknowledged.position.max(head.position);
        } else if !self.knows(head.epoch) {
            // A new epoch, which the follower is about to learn of. An epoch that it knows already is over.
            *acknowledged = head;
        }
    }

    /// The highest head that was acknowledged to a client of this instance.
    pub fn acknowledged(&self) -> Head {
        *self.acknowledged.lock()
    }

    /// The entries after `from` up to the local head, which must have [reached](Self::reach) `from`. `from` may be of
    /// an earlier epoch that has it in common with the present one.
    ///
    /// # Errors
    /// [`OutOfReach`]: the ring does not reach back to `from`, or a failover has cut it off.
    pub fn tail(&self, from: Head) -> Result<Tail, OutOfReach> {
        self.tail_of_all(&[from]).map_err(|_| OutOfReach)
    }

    /// As [`tail`](Self::tail), but only the entries that may concern one of `filters`, in log order. Costs as much as
    /// these are, however long the tail is. Every change of an event that one of the filters selects is in them, and
    /// every entry that is not whole.
    ///
    /// # Errors
    /// [`OutOfReach`], as for [`tail`](Self::tail).
    pub fn tail_concerning(&self, from: Head, filters: &[Filter]) -> Result<Tail, OutOfReach> {
        let ring = self.ring.read();
        let (place, head) = (ring.place_of(from).ok_or(OutOfReach)?, ring.head());
        if !(ring.floor()..=head.position).contains(&place.position) {
            return Err(OutOfReach);
        }
        Ok(Tail { entries: ring.concerning(filters, place.position), head })
    }

    /// True when the log can bring a snapshot at `head` up to date, now or once the local head is there.
    pub fn reaches_back_to(&self, head: Head) -> bool {
        let ring = self.ring.read();
        ring.place_of(head).is_some_and(|place| place.position >= ring.floor())
    }

    /// The entries after the oldest of `heads` up to the local head; or the indexes of the heads that are out of reach.
    pub fn tail_of_all(&self, heads: &[Head]) -> Result<Tail, Vec<usize>> {
        let ring = self.ring.read();
        let held = ring.floor()..=ring.head().position;
        let reached = |head: &Head| ring.place_of(*head).is_some_and(|place| held.contains(&place.position));
        let lost: Vec<usize> = (0..heads.len()).filter(|at| !heads.get(*at).is_some_and(reached)).collect();

        if !lost.is_empty() {
            return Err(lost);
        }

        let oldest = heads.iter().map(|head| head.position).min().unwrap_or(ring.head().position);
        let entries = ring.after(oldest, usize::MAX).unwrap_or_default();
        Ok(Tail { entries, head: ring.head() })
    }

    /// The position before the oldest entry in the ring: an older snapshot cannot be brought up to date.
    pub fn floor(&self) -> Position {
        self.ring.read().floor()
    }

    /// What has become of the entry at `head`.
    pub fn fate(&self, head: Head) -> EntryFate {
        self.ring.read().fate(head)
    }

    /// True for an epoch that this instance follows or has followed.
    pub fn knows(&self, epoch: Epoch) -> bool {
        self.ring.read().generation_of(epoch).is_some()
    }

    /// Notes whether the shared log could be read; true where that has changed.
    pub fn set_primary_reachable(&self, reachable: bool) -> bool {
        self.primary_reachable.swap(reachable, Ordering::Relaxed) != reachable
    }

    /// Whether the follower's last read of the shared log succeeded: else asking the primary is not worth the wait.
    pub fn is_primary_reachable(&self) -> bool {
        self.primary_reachable.load(Ordering::Relaxed)
    }

    /// True when a subscription on this instance matches the ephemeral `event`.
    pub fn has_listener(&self, event: &Event) -> bool {
        let mut heard = false;
        self.matcher.lock().for_each_match(event, |_| heard = true);
        heard
    }

    /// The events removed after `from` up to the local head, and that head.
    ///
    /// # Errors
    /// [`OutOfReach`], as for [`tail`](Self::tail).
    pub fn removed_after(&self, from: Head) -> Result<(Vec<EventId>, Head), OutOfReach> {
        if self.head() == from {
            return Ok((Vec::new(), from));
        }
        let tail = self.tail(from)?;
        let removed = tail.entries.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
            Change::Removed(removal) => Some(removal.id()),
            Change::Inserted(_) => None,
        });
        Ok((removed.collect(), tail.head))
    }

    /// The contents of the ring, for metrics.
    pub fn ring_facts(&self) -> RingFacts {
        self.ring.read().facts()
    }

    /// For each of `ids`, the event, where the ring has its insertion and no removal; and the local head, as of which
    /// that holds.
    pub fn held(&self, ids: &[EventId]) -> (Vec<Option<Arc<Event>>>, Head) {
        let ring = self.ring.read();
        (ids.iter().map(|id| ring.event(id)).collect(), ring.head())
    }

    /// The matcher's counters, for metrics.
    pub fn matcher_stats(&self) -> MatcherStats {
        self.matcher.lock().stats()
    }

    /// The number of open subscriptions and of their distinct filters, for metrics.
    pub fn subscriptions(&self) -> (usize, usize) {
        let matcher = self.matcher.lock();
        (matcher.len(), matcher.distinct_filters())
    }
}
