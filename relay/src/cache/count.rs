//! A number of events at a position, and how the log moves it on: the same rules for what is kept and for what was just
//! counted.

use super::snapshot::was_read_by;
use crate::store::Counted;
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, Event, Head, LogEntry, Timestamp};

/// How many distinct events some filters select, exactly as of `head`, while it [holds](Self::holds_at).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// It holds the log up to here and nothing later.
    pub head: Head,
    /// How many.
    pub number: u64,
    /// What had expired by this second is not among them.
    pub counted_at: Timestamp,
    /// The second at which the first of them expires.
    pub until: Option<Timestamp>,
}

/// An event has gone of which nobody can say whether it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody can say whether it was counted")]
pub struct Unsure;

impl Count {
    /// What the store has counted at the second `counted_at`.
    pub fn new(Counted { number, head, expires_at }: Counted, counted_at: Timestamp) -> Self {
        Self { head, number, counted_at, until: expires_at }
    }

    /// True while nothing of it has expired, unless the clock of whoever has counted was far ahead.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        was_read_by(now, self.counted_at) && self.until.is_none_or(|until| now < until)
    }

    /// Applies those of `entries` that come after the head, which then is `to`: the log says that they are all there is
    /// between the two. `selects` says which events the filters and the reader's access let in.
    pub fn advance(&mut self, entries: &[LogEntry], to: Head, selects: impl Fn(&Event) -> bool) -> Result<(), Unsure> {
        let read_at = self.head.position;
        let mut whole = true;
        for entry in entries.iter().filter(|entry| entry.position > read_at && !ablated(Safeguard::Tail)) {
            whole &= entry.whole;
            for change in entry.changes.iter() {
                match change {
                    Change::Inserted(insertion) if selects(&insertion.event) => self.insert(&insertion.event),
                    Change::Removed(removal) if selects(&removal.event) => {
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

    /// Takes an event off that the filters select and that was there.
    pub fn remove(&mut self, event: &Event) -> Result<(), Unsure> {
        if !event.is_expired(self.counted_at) {
            self.number = self.number.checked_sub(1).ok_or(Unsure)?;
        }
        Ok(())
    }
}
