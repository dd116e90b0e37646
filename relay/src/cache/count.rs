//! A number of events at a position, and how the log moves it on. The same rules serve entries of the cache and counts
//! that were just read.

use super::snapshot::was_read_by;
use crate::store::Counted;
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, Event, Head, LogEntry, Timestamp};

/// How many distinct events some filters select, exact as of `head`, while it [holds](Self::holds_at).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The number reflects the log up to here, and nothing later.
    pub head: Head,
    /// The number of events.
    pub number: u64,
    /// Events that had expired by this second are not counted.
    pub counted_at: Timestamp,
    /// The second at which the first of the counted events expires.
    pub until: Option<Timestamp>,
}

/// An event was removed, and it cannot be known whether it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody can say whether it was counted")]
pub struct Unsure;

impl Count {
    /// A count that the store made at the second `counted_at`.
    pub fn new(Counted { number, head, expires_at }: Counted, counted_at: Timestamp) -> Self {
        Self { head, number, counted_at, until: expires_at }
    }

    /// True while none of the counted events has expired, unless the counting instance's clock was far ahead.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        was_read_by(now, self.counted_at) && self.until.is_none_or(|until| now < until)
    }

    /// Applies those of `entries` that come after the head, and moves the head to `to`. The caller guarantees that
    /// there are no other entries between the two. `selects` is true for the events that the filters and the reader's
    /// access let in.
    ///
    /// # Errors
    /// [`Unsure`]: the number no longer means anything; count again.
    pub fn advance(&mut self, entries: &[LogEntry], to: Head, selects: impl Fn(&Event) -> bool) -> Result<(), Unsure> {
        let read_at = self.head.position;
        let mut whole = true;
        for entry in entries.iter().filter(|entry| entry.position > read_at && !ablated(Safeguard::Tail)) {
            whole &= entry.whole;
            for change in entry.changes.iter() {
                match change {
                    Change::Inserted(insertion) if selects(&insertion.event) => self.insert(&insertion.event),
                    Change::Removed(removal) if selects(&removal.event) => {
                        // After an entry that is not whole, the removed event may be one that the entry left out.
                        if !whole && !ablated(Safeguard::SureCounts) {
                            return Err(Unsure);
                        }
                        self.remove(&removal.event)?;
                    }
                    Change::Inserted(_) | Change::Removed(_) => {}
                }
            }
        }
        self.head = to;
        Ok(())
    }

    /// Counts an event that the filters select.
    pub fn insert(&mut self, event: &Event) {
        if !event.is_expired(self.counted_at) {
            self.number += 1;
            self.until = self.until.into_iter().chain(event.expires_at()).min();
        }
    }

    /// Subtracts an event that the filters select and that was stored.
    pub fn remove(&mut self, event: &Event) -> Result<(), Unsure> {
        if !event.is_expired(self.counted_at) {
            self.number = self.number.checked_sub(1).ok_or(Unsure)?;
        }
        Ok(())
    }
}
