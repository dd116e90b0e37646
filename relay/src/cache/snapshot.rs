//! One filter's rows at a position, and how the log moves them on: the same rules for what is kept and for what was just
//! read.

use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, Event, Head, Key, LogEntry, Row, Timestamp};
use std::collections::VecDeque;

/// What stands in an answer: a row, or at least its key.
pub trait Listed {
    /// Its place in the order and its id.
    fn key(&self) -> Key;

    /// True when it is known to have expired by `now`.
    fn is_expired(&self, now: Timestamp) -> bool;

    /// About how many bytes it takes in memory.
    fn bytes(&self) -> usize;
}

/// What a row takes beside its text: itself, the counts of its text, the allocator's part.
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

/// How many bytes of rows a change has added and taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Difference {
    /// Of a row that came.
    pub added: usize,
    /// Of rows that went.
    pub removed: usize,
}

/// The newest events of one filter, exactly as of `head`. Some may have expired since: that is for the reader to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<R = Row> {
    /// The rows hold the log up to here and nothing later.
    pub head: Head,
    /// There is room for so many rows.
    pub limit: usize,
    /// Newest first, ties by lowest id; each once. New ones come in at the front and go at the back, and neither moves the
    /// others.
    pub rows: VecDeque<R>,
    /// True when nothing older matches: the rows are all there is.
    pub complete: bool,
    /// What had expired by this second of its reader's clock may be missing.
    pub read_at: Timestamp,
}

/// How far ahead of the own clock the clock of whoever has read an answer may be, in seconds. Beyond that it may lack what has
/// not expired here.
const CLOCKS_APART: Timestamp = 60;

/// True when what was read at the second `read_at`, by whatever clock, can answer who asks at `now`.
pub(super) fn was_read_by(now: Timestamp, read_at: Timestamp) -> bool {
    read_at <= now.saturating_add(CLOCKS_APART)
}

impl<R: Listed + From<Row>> Snapshot<R> {
    /// The answer to a filter that wants, or can have, no stored event.
    pub fn nothing(head: Head) -> Self {
        Self { head, limit: 0, rows: VecDeque::new(), complete: true, read_at: Timestamp::MIN }
    }

    /// True when removals have left fewer rows than there is room for although older ones may exist: where all of them
    /// are wanted, the only thing to do is to read again.
    pub fn is_short(&self) -> bool {
        !self.complete && self.rows.len() < self.limit
    }

    /// Applies those of `entries` that come after the head, which then is `to`: the log says that they are all there is
    /// between the two. `selects` says which events the filter, the reader's access and the clock let in.
    pub fn advance(&mut self, entries: &[LogEntry], to: Head, selects: impl Fn(&Event) -> bool) {
        // Of another epoch, perhaps: then the log has said that this far both have the same entries.
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

    /// Takes an event in that the filter selects.
    pub fn insert(&mut self, event: &Event) -> Difference {
        let mut difference = Difference::default();
        if self.limit == 0 {
            return difference;
        }
        let row = R::from(Row::from(event));
        let (key, order) = (row.key(), row.key().order());
        let at = match self.rows.front() {
            // Nearly always: what is new is the newest.
            Some(newest) if order < newest.key().order() => 0,
            _ => self.rows.partition_point(|other| other.key().order() < order),
        };
        // Older than the last row we know: there may be others between, unless we know that there are none.
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

    /// Takes an event out, if it is there.
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
