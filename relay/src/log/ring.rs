//! The ring: recent entries without holes from `floor` to `head`, bounded in bytes. It has a generation for each epoch
//! that it has followed.

use super::RingFacts;
use super::ring_index::RingIndex;
use crate::outbox::{Place, RingGeneration};
use crate::store::SharedHead;
use crate::types::{Change, Epoch, Event, EventId, Filter, Head, Insertion, LogEntry, Position};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// An entry came whose predecessor is missing: the log has to be read from `expected` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log has a hole: expected position {}, got {}", expected.0, got.0)]
pub struct Hole {
    /// The position after the local head.
    pub expected: Position,
    /// The position that came instead.
    pub got: Position,
}

/// Bytes of an event beside its text: the structs, the boxes of the tags, the map's entry. Roughly measured, to keep
/// the bound honest for small events.
const OVERHEAD_BYTES: usize = 512;

/// Past generations that the ring remembers; a place of an older one is out of reach.
const GENERATIONS_KEPT: usize = 16;

/// What has become of an entry of some epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryFate {
    /// It is part of the log that this instance follows, or will be once the local head is there.
    InLog,
    /// A failover has cut it off.
    CutOff,
    /// Its epoch is over, and this instance has never learned how it ended.
    Undecidable,
    /// This instance does not know its epoch.
    UnknownEpoch,
}

/// A generation that is over.
#[derive(Debug, Clone, Copy)]
struct PastGeneration {
    generation: RingGeneration,
    epoch: Epoch,
    /// The last position that it has in common with the next generation; `None` where that is unknown.
    base: Option<Position>,
}

pub(super) struct Ring {
    head: Head,
    generation: RingGeneration,
    /// The past generations, the latest last.
    past: VecDeque<PastGeneration>,
    entries: VecDeque<(LogEntry, usize)>,
    bytes: usize,
    max_bytes: usize,
    /// Finds the insertion that a removal marks as dead.
    alive: FxHashMap<EventId, Arc<Insertion>>,
    index: RingIndex,
}

impl Ring {
    pub(super) fn new(head: Head, max_bytes: usize) -> Self {
        Self {
            head,
            generation: RingGeneration(0),
            past: VecDeque::new(),
            entries: VecDeque::new(),
            bytes: 0,
            max_bytes,
            alive: FxHashMap::default(),
            index: RingIndex::new(),
        }
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    pub(super) fn generation(&self) -> RingGeneration {
        self.generation
    }

    /// The last generation in which the ring has followed `epoch`; `None` where it never has.
    pub(super) fn generation_of(&self, epoch: Epoch) -> Option<RingGeneration> {
        if epoch == self.head.epoch {
            return Some(self.generation);
        }
        self.past.iter().rev().find(|past| past.epoch == epoch).map(|past| past.generation)
    }

    /// The place of `head` in the present generation; `None` where a failover has cut it off, or may have.
    pub(super) fn place_of(&self, head: Head) -> Option<Place> {
        self.place_now(Place::end_of(self.generation_of(head.epoch)?, head.position))
    }

    /// The same place in the present generation; `None` where a failover has cut it off, or may have.
    pub(super) fn place_now(&self, place: Place) -> Option<Place> {
        if place.generation == self.generation {
            return Some(place);
        }
        let later = self.past.iter().filter(|past| past.generation >= place.generation);
        // The ring must remember every generation from that one on, and each must have the place in common with the
        // next.
        let remembered = self.past.front().is_some_and(|oldest| oldest.generation <= place.generation);
        let common = |past: &PastGeneration| past.base.is_some_and(|base| place.position <= base);
        (remembered && later.into_iter().all(common)).then_some(Place { generation: self.generation, ..place })
    }

    /// What has become of the entry at `head`.
    pub(super) fn fate(&self, head: Head) -> EntryFate {
        let Some(generation) = self.generation_of(head.epoch) else { return EntryFate::UnknownEpoch };
        let place = Place::end_of(generation, head.position);
        if self.place_now(place).is_some() {
            return EntryFate::InLog;
        }
        let remembered = self.past.front().is_some_and(|oldest| oldest.generation <= generation);
        let bases_known = self.past.iter().filter(|past| past.generation >= generation).all(|past| past.base.is_some());
        if remembered && bases_known { EntryFate::CutOff } else { EntryFate::Undecidable }
    }

    /// Switches to a new epoch that has everything up to `base` in common with the present one. Returns the entries
    /// beyond `base`, oldest first, and whether these are all that there were.
    pub(super) fn switch_epoch(&mut self, epoch: Epoch, base: Position) -> (Vec<LogEntry>, bool) {
        let whole = self.floor() <= base;
        let mut cut_off = Vec::new();
        while self.head.position > base {
            match self.entries.pop_back() {
                Some((entry, bytes)) => {
                    self.bytes -= bytes;
                    self.index.pop_back(&entry);
                    self.forget(&entry);
                    self.head.position = Position(entry.position.0 - 1);
                    cut_off.push(entry);
                }
                None => self.head.position = base,
            }
        }

        cut_off.reverse();
        self.drop_up_to_last_partial_entry();
        self.begin_generation(epoch, Some(base));
        (cut_off, whole)
    }

    /// Drops everything and continues after the head of `to`. The epoch before it is over, even where this ring never
    /// followed it.
    pub(super) fn restart(&mut self, to: SharedHead) {
        self.entries.clear();
        self.alive.clear();
        self.index.clear();
        self.bytes = 0;
        if to.head.epoch != self.head.epoch && to.previous != self.head.epoch {
            self.begin_generation(to.previous, None);
        }
        self.begin_generation(to.head.epoch, None);
        self.head = to.head;
    }

    /// Drops everything up to the last entry that is not whole. Such an entry leaves out events that were removed
    /// before it was read. The epoch switch may cut off those removals; then the events are back, and this ring, which
    /// never had them, cannot bring an older snapshot up to date.
    fn drop_up_to_last_partial_entry(&mut self) {
        let Some(last) = self.entries.iter().rposition(|(entry, _)| !entry.whole) else { return };
        (0..=last).for_each(|_| self.drop_oldest());
    }

    fn begin_generation(&mut self, epoch: Epoch, base: Option<Position>) {
        self.past.push_back(PastGeneration { generation: self.generation, epoch: self.head.epoch, base });
        if self.past.len() > GENERATIONS_KEPT {
            self.past.pop_front();
        }
        self.generation.0 += 1;
        self.head.epoch = epoch;
    }

    /// Appends the entry after the head. `Ok(false)`: the ring has had it before.
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
        bytes += self.index.push(entry);
        self.head.position = entry.position;
        // Ephemeral events are for those who are live now.
        self.entries.push_back((LogEntry { ephemeral: Vec::new(), ..entry.clone() }, bytes));
        self.bytes += bytes;
        self.trim();
        Ok(true)
    }

    /// Whole entries after `position` of the present generation: at least one where there is one, and no further one
    /// once they have `max_changes` changes. `None`: the ring no longer reaches back.
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

    /// The entries after `position` of the present generation that may concern one of `filters`. The ring must reach
    /// back to the position.
    pub(super) fn concerning(&self, filters: &[Filter], position: Position) -> Vec<LogEntry> {
        let Some(positions) = self.index.concerning(filters, position) else {
            return self.after(position, usize::MAX).unwrap_or_default();
        };
        let first = self.floor().next();
        let entry = |position: Position| {
            // The entries are without holes.
            let at = usize::try_from(position.0.checked_sub(first.0)?).ok()?;
            self.entries.get(at).map(|(entry, _)| entry.clone())
        };
        positions.into_iter().filter_map(entry).collect()
    }

    /// The event of this id, where the ring has its insertion and no removal.
    pub(super) fn event(&self, id: &EventId) -> Option<Arc<Event>> {
        self.alive.get(id).map(|insertion| insertion.event.clone())
    }

    pub(super) fn facts(&self) -> RingFacts {
        RingFacts { floor: self.floor(), head: self.head.position, bytes: self.bytes }
    }

    pub(super) fn floor(&self) -> Position {
        Position(self.head.position.0 - self.entries.len() as u64)
    }

    /// Drops the oldest entries beyond the bound. The newest entry stays, whatever its size.
    fn trim(&mut self) {
        while self.bytes > self.max_bytes && self.entries.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((entry, bytes)) = self.entries.pop_front() {
            self.bytes -= bytes;
            self.index.pop_front(&entry);
            self.forget(&entry);
        }
    }

    /// A later removal no longer finds the insertions of `entry`.
    fn forget(&mut self, entry: &LogEntry) {
        for change in entry.changes.iter() {
            if let Change::Inserted(insertion) = change
                && self.alive.get(&insertion.event.id()).is_some_and(|held| Arc::ptr_eq(held, insertion))
            {
                self.alive.remove(&insertion.event.id());
            }
        }
    }
}
