//! A cached answer, and how the log moves it on.

use super::key::only_few_ids;
use super::{CanonicalQuery, Count, FilterKey, Snapshot};
use crate::types::{EventId, Filter, Head, LogEntry, Row};
use std::sync::Arc;

/// A cached answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`CanonicalQuery::Rows`].
    Rows(Arc<Snapshot>),
    /// To [`CanonicalQuery::Count`].
    Count(Count),
}

impl Answer {
    /// The answer reflects the log up to here, and nothing later.
    pub fn head(&self) -> Head {
        match self {
            Self::Rows(entry) => entry.head,
            Self::Count(count) => count.head,
        }
    }

    /// The rows; a count has none.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        let rows = match self {
            Self::Rows(entry) => Some(&entry.rows),
            Self::Count(_) => None,
        };
        rows.into_iter().flatten()
    }

    /// The same answer, exact as of another head. The caller knows that nothing between the two heads concerns it.
    pub(super) fn at(&self, head: Head) -> Self {
        match self {
            Self::Rows(entry) => Self::Rows(Arc::new(Snapshot { head, ..Snapshot::clone(entry) })),
            Self::Count(count) => Self::Count(Count { head, ..*count }),
        }
    }

    /// The answer of `key` after `entries`, which are all there is between its head and `to`. `None`: it cannot be
    /// known whether the count is right.
    pub fn advance(self, key: &FilterKey, entries: &[LogEntry], to: Head) -> Option<Self> {
        match self {
            Self::Rows(entry) => {
                let mut entry = Arc::unwrap_or_clone(entry);
                entry.advance(entries, to, |event| key.selects(event));
                Some(Self::Rows(Arc::new(entry)))
            }
            Self::Count(mut count) => {
                // An entry that is not whole leaves out events whose removal may come later; then it is unknown
                // that they were never counted.
                let whole = entries.iter().all(|entry| entry.whole);
                (whole && count.advance(entries, to, |event| key.selects(event)).is_ok()).then_some(Self::Count(count))
            }
        }
    }

    /// The answer split by id, where `key` names several ids and nothing else, and this answer has all of them. An id's
    /// event never changes, and clients ask for the same id together with ever different ones.
    pub(super) fn by_id(&self, key: &FilterKey) -> Option<Vec<(FilterKey, Self)>> {
        let (Self::Rows(entry), CanonicalQuery::Rows(filter)) = (self, &key.query) else { return None };
        let ids = only_few_ids(filter).filter(|ids| ids.len() > 1 && entry.complete)?;
        let one = |id: &EventId| {
            let rows = entry.rows.iter().filter(|row| row.key.id == *id).cloned().collect();
            let entry = Snapshot { limit: 1, rows, complete: true, ..*entry.as_ref() };
            (by_id(*id, key), Self::Rows(Arc::new(entry)))
        };
        Some(ids.iter().map(one).collect())
    }
}

/// The key of one event, for the readers of `key`.
fn by_id(id: EventId, key: &FilterKey) -> FilterKey {
    let filter = Filter { ids: Some([id].into()), ..Filter::default() };
    FilterKey { query: CanonicalQuery::Rows(filter), reader: key.reader.clone() }
}
