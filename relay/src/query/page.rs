//! One filter's rows at a position, and how the log moves them on.

use crate::log::Tail;
use crate::types::mechanism::{Mechanism, is_off};
use crate::types::{Access, Change, Event, Filter, Head, Insertion, Key, Row, Timestamp};
use std::collections::HashSet;

/// The newest events of one filter, exactly as of `head`.
#[derive(Debug)]
pub(super) struct Snapshot {
    rows: Vec<Candidate>,
    pub(super) head: Head,
    complete: bool,
    limit: usize,
}

/// One event of an answer: with its text, or still to be fetched.
#[derive(Debug, Clone)]
pub(super) enum Candidate {
    Here(Row),
    ToFetch(Key),
}

impl Candidate {
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Here(row) => row.key,
            Self::ToFetch(key) => *key,
        }
    }
}

impl Snapshot {
    pub(super) fn new(rows: Vec<Row>, rest: Vec<Key>, head: Head, complete: bool, limit: usize) -> Self {
        let rows = rows.into_iter().map(Candidate::Here).chain(rest.into_iter().map(Candidate::ToFetch)).collect();
        Self { rows, head, complete, limit }
    }

    /// The answer to a filter that wants, or can have, no stored event.
    pub(super) fn nothing(head: Head) -> Self {
        Self { rows: Vec::new(), head, complete: true, limit: 0 }
    }

    /// True when removals have left fewer rows than were asked for although older ones may exist: the only thing to
    /// do is to read again.
    pub(super) fn is_short(&self) -> bool {
        !self.complete && self.rows.len() < self.limit
    }

    /// Applies the entries after this snapshot's head; afterwards it is exact as of the tail's head.
    pub(super) fn apply(&mut self, tail: &Tail, filter: &Filter, access: &Access, now: Timestamp) {
        // Of another epoch, perhaps: then the log has said that this far both have the same entries.
        let read_at = self.head.position;
        let missed = tail.entries.iter().filter(|entry| entry.position > read_at && !is_off(Mechanism::Tail));
        for entry in missed {
            for change in entry.changes.iter() {
                match change {
                    Change::Inserted(insertion) => self.insert(insertion, filter, access, now),
                    Change::Removed(removal) => self.remove(&removal.event),
                }
            }
        }
        self.head = tail.head;
    }

    fn insert(&mut self, insertion: &Insertion, filter: &Filter, access: &Access, now: Timestamp) {
        let event = &insertion.event;
        if self.limit == 0 || !filter.matches(event) || event.is_expired(now) || !access.may_read(event) {
            return;
        }
        let row = Row::from(&**event);
        let order = row.key.order();
        let at = self.rows.partition_point(|other| other.key().order() < order);
        // Older than the last row we know: there may be others between, unless we know that there are none.
        if at == self.rows.len() && !self.complete {
            return;
        }
        if self.rows.get(at).is_some_and(|other| other.key() == row.key) {
            return;
        }
        self.rows.insert(at, Candidate::Here(row));
        if self.rows.len() > self.limit {
            self.rows.pop();
            self.complete = false;
        }
    }

    fn remove(&mut self, event: &Event) {
        let key = Key { created_at: event.created_at(), id: event.id() };
        let at = self.rows.partition_point(|other| other.key().order() < key.order());
        if self.rows.get(at).is_some_and(|other| other.key() == key) {
            self.rows.remove(at);
        }
    }
}

/// Merges the filters' rows: newest first, ties by lowest id, each event once.
pub(super) fn merge(snapshots: Vec<Snapshot>) -> Vec<Candidate> {
    let single = snapshots.len() == 1;
    let mut all: Vec<Candidate> = snapshots.into_iter().flat_map(|snapshot| snapshot.rows).collect();
    if !single {
        let mut seen = HashSet::with_capacity(all.len());
        // A row that is here comes before the same one still to be fetched.
        all.sort_by_key(|candidate| (candidate.key().order(), matches!(candidate, Candidate::ToFetch(_))));
        all.retain(|candidate| seen.insert(candidate.key().id));
    }
    all
}
