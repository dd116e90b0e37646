//! The log as this instance knows it: the ring of recent changes, the local head, and the delivery of what comes.
//!
//! One task applies entries in order ([`Log::apply`]); everybody else reads. Locks are taken in the order
//! matcher → subscription → outbox, and subscription → ring; the ring's lock is innermost and short.

mod delivery;
mod ring;
#[cfg(test)]
mod tests;

pub use ring::Hole;

use crate::matcher::Matcher;
use crate::outbox::Subscription;
use crate::telemetry::Metrics;
use crate::types::{Change, Event, EventId, Head, Insertion, LogEntry, Position};
use parking_lot::{Mutex, RwLock};
use ring::Ring;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// What a reader of the ring found after its position.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Every entry after the position, without holes.
    pub entries: Vec<LogEntry>,
    /// The local head: the position of the last of them, or the reader's own.
    pub head: Head,
}

/// The ring no longer reaches back to the position that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log no longer reaches back that far")]
pub struct OutOfReach;

/// The follower has stopped: the relay is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is closed")]
pub struct LogClosed;

/// The local copy of the log's end, and those who wait for what comes next.
pub struct Log {
    ring: RwLock<Ring>,
    matcher: Mutex<Matcher<Arc<Subscription>>>,
    head: watch::Sender<Head>,
    acknowledged: AtomicU64,
    metrics: Arc<Metrics>,
}

/// What the ring holds, for metrics.
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
    /// A log that continues after `head`, whose ring keeps about `ring_bytes` of recent changes.
    pub fn new(head: Head, ring_bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            ring: RwLock::new(Ring::new(head, ring_bytes)),
            matcher: Mutex::new(Matcher::new()),
            head: watch::Sender::new(head),
            acknowledged: AtomicU64::new(head.position.0),
            metrics,
        })
    }

    /// Applies the next entry: ring, head, then every subscription that it concerns. To be called by one task only,
    /// in order. An entry that is already there is ignored; one that would leave a hole is refused.
    pub fn apply(&self, entry: &LogEntry) -> Result<(), Hole> {
        if !self.ring.write().push(entry)? {
            return Ok(());
        }
        self.head.send_modify(|head| head.position = entry.position);
        self.deliver(entry);
        Ok(())
    }

    /// Delivers an ephemeral event to the subscriptions that are live now and returns their number. It has no
    /// position and is kept nowhere.
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

    /// The local head.
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// Waits until the local head is at `position` or later. Cancel safe.
    pub async fn reach(&self, position: Position) -> Result<Head, LogClosed> {
        let mut head = self.head.subscribe();
        head.wait_for(|head| head.position >= position).await.map(|head| *head).map_err(|_| LogClosed)
    }

    /// Notes that a client was told "stored" for something at `position`: from now on a REQ on this instance waits
    /// until the local head is there, so that everyone reads their own writes.
    pub fn acknowledge(&self, position: Position) {
        self.acknowledged.fetch_max(position.0, Ordering::AcqRel);
    }

    /// The highest position that was acknowledged to a client of this instance.
    pub fn acknowledged(&self) -> Position {
        Position(self.acknowledged.load(Ordering::Acquire))
    }

    /// Everything after `position`, up to the local head.
    pub fn tail(&self, position: Position) -> Result<Tail, OutOfReach> {
        let ring = self.ring.read();
        let entries = ring.after(position, usize::MAX).ok_or(OutOfReach)?;
        Ok(Tail { entries, head: ring.head() })
    }

    /// The events that were removed after `position`, up to the local head, which is returned as well.
    pub fn removed_after(&self, position: Position) -> Result<(Vec<EventId>, Position), OutOfReach> {
        if self.head().position <= position {
            return Ok((Vec::new(), position));
        }
        let tail = self.tail(position)?;
        let removed = tail.entries.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
            Change::Removed(removal) => Some(removal.id()),
            Change::Inserted(_) => None,
        });
        Ok((removed.collect(), tail.head.position))
    }

    /// What the ring holds, for metrics.
    pub fn ring_facts(&self) -> RingFacts {
        self.ring.read().facts()
    }

    /// How many subscriptions are open and how many distinct filters they ask for, for metrics.
    pub fn subscriptions(&self) -> (usize, usize) {
        let matcher = self.matcher.lock();
        (matcher.len(), matcher.distinct_filters())
    }
}
