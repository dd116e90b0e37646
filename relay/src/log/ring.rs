//! The ring: recent entries, contiguous from `floor` to `head`, bounded in bytes.

use super::RingFacts;
use crate::types::{Change, EventId, Head, Insertion, LogEntry, Position};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// An entry came whose predecessor is missing: read the log from `expected` first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log has a hole: expected position {}, got {}", expected.0, got.0)]
pub struct Hole {
    /// The position after the local head.
    pub expected: Position,
    /// The position that came instead.
    pub got: Position,
}

/// What an event costs beside its text: the structs, the tags' boxes, the map entry. Measured roughly; it only keeps
/// the bound honest for small events.
const OVERHEAD_BYTES: usize = 512;

pub(super) struct Ring {
    head: Head,
    entries: VecDeque<(LogEntry, usize)>,
    bytes: usize,
    max_bytes: usize,
    /// Where a removal finds the insertion that it kills.
    alive: FxHashMap<EventId, Arc<Insertion>>,
}

impl Ring {
    pub(super) fn new(head: Head, max_bytes: usize) -> Self {
        Self { head, entries: VecDeque::new(), bytes: 0, max_bytes, alive: FxHashMap::default() }
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Appends the entry after the head. `Ok(false)`: it was there before.
    pub(super) fn push(&mut self, entry: &LogEntry) -> Result<bool, Hole> {
        let expected = self.head.position.next();
        if entry.position < expected {
            return Ok(false);
        }
        if entry.position > expected {
            return Err(Hole { expected, got: entry.position });
        }
        let mut bytes = 0;
        for change in entry.changes.iter() {
            bytes += OVERHEAD_BYTES;
            match change {
                Change::Inserted(insertion) => {
                    bytes += insertion.event.text().len();
                    self.alive.insert(insertion.event.id(), insertion.clone());
                }
                Change::Removed(removal) => {
                    bytes += removal.event.text().len();
                    if let Some(insertion) = self.alive.remove(&removal.id()) {
                        insertion.mark_dead();
                    }
                }
            }
        }
        self.head.position = entry.position;
        self.entries.push_back((entry.clone(), bytes));
        self.bytes += bytes;
        self.trim();
        Ok(true)
    }

    /// Up to `max_changes` changes' worth of whole entries after `position`, at least one entry where there is one;
    /// `None` when the ring no longer reaches back to it.
    pub(super) fn after(&self, position: Position, max_changes: usize) -> Option<Vec<LogEntry>> {
        let skip = position.0.checked_sub(self.floor().0)?;
        let mut taken = Vec::new();
        let mut changes = 0;
        for (entry, _) in self.entries.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)) {
            if changes >= max_changes {
                break;
            }
            changes += entry.changes.len();
            taken.push(entry.clone());
        }
        Some(taken)
    }

    pub(super) fn facts(&self) -> RingFacts {
        RingFacts { floor: self.floor(), head: self.head.position, bytes: self.bytes }
    }

    fn floor(&self) -> Position {
        Position(self.head.position.0 - self.entries.len() as u64)
    }

    /// Drops the oldest entries beyond the bound. The newest entry stays, however large it is.
    fn trim(&mut self) {
        while self.bytes > self.max_bytes && self.entries.len() > 1 {
            let Some((entry, bytes)) = self.entries.pop_front() else { return };
            self.bytes -= bytes;
            for change in entry.changes.iter() {
                if let Change::Inserted(insertion) = change
                    && self.alive.get(&insertion.event.id()).is_some_and(|held| Arc::ptr_eq(held, insertion))
                {
                    self.alive.remove(&insertion.event.id());
                }
            }
        }
    }
}
