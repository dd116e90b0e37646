//! What is kept under a key, and how the log moves it on.

use super::key::only_few_ids;
use super::{Ask, Count, FilterKey, Snapshot};
use crate::types::{EventId, Filter, Head, LogEntry, Row};
use std::sync::Arc;

/// What is kept under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of [`Ask::Rows`].
    Rows(Arc<Snapshot>),
    /// Of [`Ask::Count`].
    Count(Count),
}

impl Answer {
    /// It holds the log up to here and nothing later.
    pub fn head(&self) -> Head {
        match self {
            Self::Rows(entry) => entry.head,
            Self::Count(count) => count.head,
        }
    }

    /// Its rows; a count has none.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        let rows = match self {
            Self::Rows(entry) => Some(&entry.rows),
            Self::Count(_) => None,
        };
        rows.into_iter().flatten()
    }

    /// The same, said to be exact as of another head.
    pub(super) fn at(&self, head: Head) -> Self {
        match self {
            Self::Rows(entry) => Self::Rows(Arc::new(Snapshot { head, ..Snapshot::clone(entry) })),
            Self::Count(count) => Self::Count(Count { head, ..*count }),
        }
    }

    /// The answer of `key` after `entries`, all there is between its head and `to`, so that it can be kept; `None` where
    /// that cannot be said.
    pub fn advance(self, key: &FilterKey, entries: &[LogEntry], to: Head) -> Option<Self> {
        match self {
            Self::Rows(entry) => {
                let mut entry = Arc::unwrap_or_clone(entry);
                entry.advance(entries, to, |event| key.selects(event));
                Some(Self::Rows(Arc::new(entry)))
            }
            Self::Count(mut count) => {
                // What was left out may go later, when nobody remembers that it was.
                let whole = entries.iter().all(|entry| entry.whole);
                (whole && count.advance(entries, to, |event| key.selects(event)).is_ok()).then_some(Self::Count(count))
            }
        }
    }

    /// The answers to each of the ids that `key` names, where it asks for some events by nothing but their ids and this
    /// answer has all of them. An id's event never changes, so these are asked for in ever new company.
    pub(super) fn by_id(&self, key: &FilterKey) -> Option<Vec<(FilterKey, Self)>> {
        let (Self::Rows(entry), Ask::Rows(filter)) = (self, &key.ask) else { return None };
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
    FilterKey { ask: Ask::Rows(filter), reader: key.reader.clone() }
}
