//! Which entries of the ring may concern a filter: so that an answer is brought up to date by what concerns it, and not
//! by all that has happened.

use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, Event, Filter, LogEntry, Position};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, RandomState};

/// About how many bytes a posting takes, with its part of the map and of the list's spare room.
const POSTING_BYTES: usize = 64;

/// For each author, kind, id and tag value, the positions of the entries with a change of such an event, in log order.
/// An entry that is not whole may lack any event, and so belongs to every filter.
pub(super) struct RingIndex {
    /// Keys the hash, so that no client can choose values that share a list.
    secret: RandomState,
    /// By the hash of the value: a collision lengthens a list and changes no answer.
    postings: FxHashMap<u64, VecDeque<Position>>,
    partial: VecDeque<Position>,
}

/// A value that events have and filters name.
#[derive(Hash)]
enum IndexedValue<'a> {
    Author(&'a [u8; 32]),
    Kind(u16),
    Id(&'a [u8; 32]),
    Tag(u8, &'a str),
}

impl RingIndex {
    pub(super) fn new() -> Self {
        Self { secret: RandomState::new(), postings: FxHashMap::default(), partial: VecDeque::new() }
    }

    /// Adds the entry after all others. Returns about how many bytes it takes.
    pub(super) fn push(&mut self, entry: &LogEntry) -> usize {
        let values = self.values_of(entry);
        for value in &values {
            self.postings.entry(*value).or_default().push_back(entry.position);
        }
        if !entry.whole {
            self.partial.push_back(entry.position);
        }
        values.len() * POSTING_BYTES
    }

    /// Takes the oldest entry out.
    pub(super) fn pop_front(&mut self, entry: &LogEntry) {
        self.take(entry, VecDeque::pop_front);
    }

    /// Takes the newest entry out.
    pub(super) fn pop_back(&mut self, entry: &LogEntry) {
        self.take(entry, VecDeque::pop_back);
    }

    fn take(&mut self, entry: &LogEntry, pop: fn(&mut VecDeque<Position>) -> Option<Position>) {
        for value in self.values_of(entry) {
            if let Some(list) = self.postings.get_mut(&value) {
                pop(list);
                if list.is_empty() {
                    self.postings.remove(&value);
                } else if list.capacity() > 4 * list.len() {
                    list.shrink_to(2 * list.len());
                }
            }
        }
        if !entry.whole {
            pop(&mut self.partial);
        }
    }

    pub(super) fn clear(&mut self) {
        self.postings.clear();
        self.partial.clear();
    }

    /// The entries after a position that may concern one of `filters`, in log order. `None`: any of them, since a
    /// filter names no value.
    pub(super) fn concerning(&self, filters: &[Filter], after: Position) -> Option<Vec<Position>> {
        let mut found = Vec::new();
        for filter in filters {
            let lists = self.shortest(filter, after)?;
            found.extend(lists.iter().flat_map(|(list, from)| list.range(*from..)));
        }
        if !ablated(Safeguard::PartialEntries) {
            found.extend(self.partial.range(first_after(&self.partial, after)..));
        }
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// Of the conditions of a filter, the one that leaves the fewest entries: its lists, and where in each the entries
    /// after the position begin. `None`: the filter names no value.
    fn shortest(&self, filter: &Filter, after: Position) -> Option<Lists<'_>> {
        let lists = |values: &mut dyn Iterator<Item = IndexedValue<'_>>| -> Lists<'_> {
            let list =
                |value| self.postings.get(&self.secret.hash_one(value)).map(|list| (list, first_after(list, after)));
            values.filter_map(list).collect()
        };
        let ids = filter.ids.as_deref().map(|ids| lists(&mut ids.iter().map(|id| IndexedValue::Id(id.as_bytes()))));
        let authors = filter.authors.as_deref();
        let authors = authors.map(|keys| lists(&mut keys.iter().map(|key| IndexedValue::Author(key.as_bytes()))));
        let kinds = filter.kinds.as_deref();
        let kinds = kinds.map(|kinds| lists(&mut kinds.iter().map(|kind| IndexedValue::Kind(kind.0))));
        let tags = filter.tags.iter().map(|condition| {
            lists(&mut condition.values.iter().map(|value| IndexedValue::Tag(condition.letter, value)))
        });
        let length = |lists: &Lists<'_>| lists.iter().map(|(list, from)| list.len() - from).sum::<usize>();
        [ids, authors, kinds].into_iter().flatten().chain(tags).min_by_key(length)
    }

    /// The hash of every value of the entry's events, each once.
    fn values_of(&self, entry: &LogEntry) -> SmallVec<[u64; 16]> {
        let mut hashes = SmallVec::new();
        for change in entry.changes.iter() {
            let event: &Event = match change {
                Change::Inserted(insertion) => &insertion.event,
                Change::Removed(removal) => &removal.event,
            };
            let (id, author) = (event.id(), event.pubkey());
            let own = [
                IndexedValue::Id(id.as_bytes()),
                IndexedValue::Author(author.as_bytes()),
                IndexedValue::Kind(event.kind().0),
            ];
            let tags = event.tags().iter().map(|tag| IndexedValue::Tag(tag.letter, &tag.value));
            hashes.extend(own.into_iter().chain(tags).map(|value| self.secret.hash_one(value)));
        }
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }
}

type Lists<'a> = SmallVec<[(&'a VecDeque<Position>, usize); 8]>;

fn first_after(list: &VecDeque<Position>, after: Position) -> usize {
    list.partition_point(|position| *position <= after)
}
