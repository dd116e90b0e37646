//! Canonical queries: equivalent and similar filters share one key, and a query takes its answer from a part of that
//! key's entry. docs/decisions/0009-the-cache.md has the savings.

use super::snapshot::was_read_by;
use super::{Answer, CanonicalQuery, Count, FilterKey, Listed, ReaderClass, Snapshot};
use crate::types::{Access, Filter, Head, Row, Timestamp};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

/// A key with its hash: a filter of a thousand authors is hashed once a query.
#[derive(Debug, Clone)]
pub struct HashedKey(Arc<(u64, FilterKey)>);

impl HashedKey {
    pub(super) fn new(key: FilterKey, secret: &RandomState) -> Self {
        Self(Arc::new((secret.hash_one(&key), key)))
    }

    /// The key.
    pub fn key(&self) -> &FilterKey {
        &self.0.1
    }

    /// The key's hash under the cache's secret.
    pub(super) fn hash(&self) -> u64 {
        self.0.0
    }
}

impl PartialEq for HashedKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for HashedKey {}

impl Hash for HashedKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

/// A query of one reader, whose answer `T` is part of the entry of a key.
pub trait CacheQuery<T> {
    /// The key of the entry, with its hash.
    fn hashed_key(&self) -> &HashedKey;

    /// The answer that an entry with `kept`, exact as of `head`, holds for this query; `None` where it holds none.
    fn answer_from(&self, kept: &Answer, head: Head) -> Option<T>;

    /// True where another read under the same key brings no answer either: every row of `kept` is newer than what this
    /// query asks for, and so is every row that a read would bring.
    fn can_never_answer(&self, _kept: &Answer) -> bool {
        false
    }
}

/// How many events some filters select at one second.
#[derive(Debug, Clone)]
pub struct CountQuery {
    hashed: HashedKey,
    now: Timestamp,
}

impl CountQuery {
    /// The query of a reader with `access` at the second `now`; `None` as for [`RowsQuery::new`].
    pub(super) fn new(filters: &[Filter], access: &Access, now: Timestamp, secret: &RandomState) -> Option<Self> {
        let reader = ReaderClass::of(filters, access)?;
        let mut filters: Vec<Filter> = filters.iter().map(|filter| Filter { limit: None, ..filter.clone() }).collect();
        if filters.len() > 1 {
            filters.sort_by_cached_key(Filter::to_json);
            filters.dedup();
        }
        Some(Self {
            hashed: HashedKey::new(FilterKey { query: CanonicalQuery::Count(filters.into()), reader }, secret),
            now,
        })
    }

    /// The key of the entry.
    pub fn key(&self) -> &FilterKey {
        self.hashed.key()
    }
}

impl CacheQuery<Count> for CountQuery {
    fn hashed_key(&self) -> &HashedKey {
        &self.hashed
    }

    fn answer_from(&self, kept: &Answer, head: Head) -> Option<Count> {
        match kept {
            Answer::Count(count) if count.holds_at(self.now) => Some(Count { head, ..*count }),
            Answer::Count(_) | Answer::Rows(_) => None,
        }
    }
}

/// How many rows a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    /// The rows that the answer needs where there are as many.
    pub wanted: usize,
    /// Further rows that it takes where they are at hand, to tell what lies beyond.
    pub spare: usize,
}

impl PageSize {
    /// The most rows.
    pub fn rows(self) -> usize {
        self.wanted.saturating_add(self.spare)
    }
}

impl From<usize> for PageSize {
    fn from(wanted: usize) -> Self {
        Self { wanted, spare: 0 }
    }
}

/// A query for the newest events of a filter: the key of the entry that can answer it, and which part of that entry it
/// needs.
#[derive(Debug, Clone)]
pub struct RowsQuery {
    hashed: HashedKey,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    size: PageSize,
    now: Timestamp,
}

/// An `until` less than this many seconds before the present means "up to now".
const PRESENT_SECONDS: Timestamp = 10;

/// A window shorter than this many seconds counts as this long.
const LEAST_WINDOW: Timestamp = 64;

impl RowsQuery {
    /// The query of a reader with `access` for a page of `filter` at the second `now`. `None`: the answer
    /// is private to that reader, so it must not be cached.
    pub(super) fn new(
        filter: &Filter,
        access: &Access,
        size: PageSize,
        now: Timestamp,
        secret: &RandomState,
    ) -> Option<Self> {
        let reader = ReaderClass::of(std::slice::from_ref(filter), access)?;
        let since = filter.since.and_then(|since| coarse(since, now));
        let until = filter.until.filter(|until| *until < now.saturating_sub(PRESENT_SECONDS));
        let query = CanonicalQuery::Rows(Filter { since, until, limit: None, ..filter.clone() });
        let hashed = HashedKey::new(FilterKey { query, reader }, secret);
        Some(Self { hashed, since: filter.since, until: filter.until, size, now })
    }

    /// The same query with its own `until` in the key, where [`new`](Self::new) has taken that for the present.
    pub(super) fn exact(&self, secret: &RandomState) -> Option<Self> {
        let FilterKey { query: CanonicalQuery::Rows(filter), reader } = self.key() else { return None };
        let until = self.until.filter(|_| filter.until.is_none())?;
        let query = CanonicalQuery::Rows(Filter { until: Some(until), ..filter.clone() });
        Some(Self { hashed: HashedKey::new(FilterKey { query, reader: reader.clone() }, secret), ..self.clone() })
    }

    /// The key of the entry, with its hash.
    pub fn hashed_key(&self) -> &HashedKey {
        &self.hashed
    }

    /// The key of the entry.
    pub fn key(&self) -> &FilterKey {
        self.hashed.key()
    }

    /// How many rows to read for an entry. A few more than the query needs, so that removals leave enough; in steps, so
    /// that queries with about the same limit share one entry.
    pub fn rows_to_read(&self) -> usize {
        let PageSize { wanted, spare } = self.size;
        let rows = wanted.saturating_add(spare.max(wanted / 8 + 4));
        rows.checked_next_multiple_of((rows.checked_next_power_of_two().unwrap_or(rows) / 32).max(4)).unwrap_or(rows)
    }

    /// How many rows the entry may grow to as events come: up to twice the query's limit.
    pub fn rows_to_keep(&self) -> usize {
        self.rows_to_read().max(self.size.wanted.saturating_mul(2))
    }

    /// The answer that `entry`, exact as of `head`, holds for this query; `None` where the entry does not reach back
    /// far enough.
    pub fn answer<R: Listed + Clone, T: From<R>>(&self, entry: &Snapshot<R>, head: Head) -> Option<Snapshot<T>> {
        if !was_read_by(self.now, entry.read_at) {
            return None;
        }

        let newer_than = |second: Timestamp| entry.rows.partition_point(|row| row.key().created_at > second);
        let begin = self.until.map_or(0, newer_than);
        let end = self.since.map_or(entry.rows.len(), |since| newer_than(since.saturating_sub(1)));
        let window = end.saturating_sub(begin);
        // Where a row is older than `since`, the entry has every row of the window.
        let knows_all = entry.complete || end < entry.rows.len();

        let mut alive = entry.rows.iter().skip(begin).take(window).filter(|row| !row.is_expired(self.now));
        let limit = self.size.rows();
        let mut rows = VecDeque::with_capacity(limit.min(window));
        rows.extend(alive.by_ref().take(limit).cloned().map(T::from));

        if rows.len() < self.size.wanted && !knows_all {
            return None;
        }
        let complete = knows_all && alive.next().is_none();
        Some(Snapshot { head, limit, rows, complete, read_at: entry.read_at })
    }
}

impl<T: From<Row>> CacheQuery<Snapshot<T>> for RowsQuery {
    fn hashed_key(&self) -> &HashedKey {
        &self.hashed
    }

    fn answer_from(&self, kept: &Answer, head: Head) -> Option<Snapshot<T>> {
        match kept {
            Answer::Rows(entry) => self.answer(entry, head),
            Answer::Count(_) => None,
        }
    }

    fn can_never_answer(&self, kept: &Answer) -> bool {
        let newest = kept.rows().next().map(|row| row.key.created_at);
        // An entry with fewer rows than this can still grow at its old end, by another read.
        kept.rows().count() >= self.rows_to_read()
            && self.until.is_some_and(|until| newest.is_some_and(|newest| newest > until))
    }
}

/// Moves `since` back to a grid whose steps grow with its distance from `now`. The window becomes at most twice as
/// long, and queries for about the same window at about the same time share a key. `None`: no lower bound is needed.
fn coarse(since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let window = now.saturating_sub(since).max(LEAST_WINDOW);
    // The greatest power of two that is at most the window.
    let step = 1 << (Timestamp::BITS - 1 - window.leading_zeros());
    Some(since.saturating_sub(since.rem_euclid(step))).filter(|since| *since > 0)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
