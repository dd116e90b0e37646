//! One filter's rows at a position, and how the log moves them on. The same rules serve entries of the cache and pages
//! that were just read.

use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, Event, Head, Key, LogEntry, Row, Timestamp};
use std::collections::VecDeque;

/// An element of a snapshot: a row, or at least its key.
pub trait Listed {
    /// Its place in the order, and its id.
    fn key(&self) -> Key;

    /// True when it is known to have expired by `now`.
    fn is_expired(&self, now: Timestamp) -> bool;

    /// About how many bytes it takes in memory.
    fn bytes(&self) -> usize;
}

/// Bytes of a row beside its text: the row itself, the counters of the `Arc`, and the allocator's overhead.
const ROW_BYTES: usize = size_of::<Row>() + 32;

impl Listed for Row {
    fn key(&self) -> Key {
        self.key
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    fn bytes(&self) -> usize {
        ROW_BYTES + self.text.len()
    }
}

/// How many bytes of rows a change has added and removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Difference {
    /// Bytes of a row that came in.
    pub added: usize,
    /// Bytes of rows that went out.
    pub removed: usize,
}

/// The newest events of one filter, exact as of `head`. Some may have expired since; the reader drops those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<R = Row> {
    /// The rows reflect the log up to here, and nothing later.
    pub head: Head,
    /// The most rows that it may hold.
    pub limit: usize,
    /// Newest first, ties by lowest id, each once. A deque: new rows come in at the front and old ones go out at the
    /// back, and neither moves the others.
    pub rows: VecDeque<R>,
    /// True when nothing older matches: the rows are all there is.
    pub complete: bool,
    /// By this second of its reader's clock; what had expired then may be missing.
    pub read_at: Timestamp,
}

/// Seconds that a reader's clock may be ahead of this instance's. A snapshot from further ahead may lack events that
/// have not expired here.
const CLOCKS_APART: Timestamp = 60;

/// True when a snapshot read at the second `read_at`, by whatever instance's clock, can answer a query at `now`.
pub(super) fn was_read_by(now: Timestamp, read_at: Timestamp) -> bool {
    read_at <= now.saturating_add(CLOCKS_APART)
}

impl<R: Listed + From<Row>> Snapshot<R> {
    /// The snapshot of a filter that asks for no stored event, or can have none.
    pub fn nothing(head: Head) -> Self {
        Self { head, limit: 0, rows: VecDeque::new(), complete: true, read_at: Timestamp::MIN }
    }

    /// True when removals have left fewer rows than are `wanted` although older rows may exist: the query then has to
    /// read again.
    pub fn is_short(&self, wanted: usize) -> bool {
        !self.complete && self.rows.len() < wanted
    }

    /// Applies those of `entries` that come after the head, and moves the head to `to`. The caller guarantees that
    /// there are no other entries between the two. `selects` is true for the events that the filter, the reader's
    /// access and the clock let in.
    pub fn advance(&mut self, entries: &[LogEntry], to: Head, selects: impl Fn(&Event) -> bool) {
        // The head may be of an earlier epoch. Then the log has established that both epochs have the same entries up
        // to here.
        let read_at = self.head.position;
        for entry in entries.iter().filter(|entry| entry.position > read_at && !ablated(Safeguard::Tail)) {
            for change in entry.changes.iter() {
                match change {
                    Change::Inserted(insertion) if selects(&insertion.event) => self.insert(&insertion.event),
                    Change::Inserted(_) => Difference::default(),
                    Change::Removed(removal) => self.remove(&removal.event),
                };
            }
        }
        self.head = to;
    }

    /// Adds an event that the filter selects.
    pub fn insert(&mut self, event: &Event) -> Difference {
        let mut difference = Difference::default();
        if self.limit == 0 {
            return difference;
        }
        let row = R::from(Row::from(event));
        let (key, order) = (row.key(), row.key().order());
        let at = match self.rows.front() {
            // The usual case: a new event is the newest.
            Some(newest) if order < newest.key().order() => 0,
            _ => self.rows.partition_point(|other| other.key().order() < order),
        };
        // An event older than the last row must not enter an incomplete page: rows between the two may be missing.
        if at == self.rows.len() && !self.complete && !ablated(Safeguard::IgnoreOlder) {
            return difference;
        }
        if self.rows.get(at).is_some_and(|other| other.key() == key) {
            return difference;
        }

        difference.added = row.bytes();
        self.rows.insert(at, row);
        if self.rows.len() > self.limit {
            difference.removed = self.rows.pop_back().map_or(0, |last| last.bytes());
            self.complete = false;
        }
        difference
    }

    /// Removes an event, if it has a row.
    pub fn remove(&mut self, event: &Event) -> Difference {
        let key = Key { created_at: event.created_at(), id: event.id() };
        let at = self.rows.partition_point(|other| other.key().order() < key.order());
        match self.rows.get(at) {
            Some(other) if other.key() == key => {
                Difference { added: 0, removed: self.rows.remove(at).map_or(0, |gone| gone.bytes()) }
            }
            _ => Difference::default(),
        }
    }
}
