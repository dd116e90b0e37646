//! The key of a cached answer: the query in canonical form, and the class of its readers.

use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Access, Event, EventId, Filter, PrivateKinds};
use sha2::{Digest, Sha256};
use std::fmt;

/// A class of readers who get the same rows for the same filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReaderClass {
    /// Every reader: no filter of the query selects private events.
    Everyone,
    /// Readers who have not authenticated: they get all events but those of these private kinds, a setting. Whom else
    /// such a kind is served to makes no difference to them.
    Unauthenticated(PrivateKinds),
}

impl ReaderClass {
    /// The class of a reader with `access` to `filters`. `None`: the answer is private to the reader (NIP-42, NIP-59).
    pub fn of(filters: &[Filter], access: &Access) -> Option<Self> {
        if filters.iter().all(|filter| access.unrestricted(filter)) || ablated(Safeguard::ReaderClasses) {
            Some(Self::Everyone)
        } else if access.authenticated.is_empty() {
            Some(Self::Unauthenticated(access.private_kinds.clone()))
        } else {
            None
        }
    }

    /// The access that everyone in this class has.
    pub fn access(&self) -> Access {
        let private_kinds = match self {
            Self::Everyone => PrivateKinds::new(Vec::new()),
            Self::Unauthenticated(private) => private.clone(),
        };
        Access { private_kinds, ..Access::default() }
    }
}

/// A query in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CanonicalQuery {
    /// The newest events of a filter without `limit`: each entry has a limit of its own.
    Rows(Filter),
    /// How many events at least one of these filters selects. The filters are sorted, distinct, and without `limit`.
    Count(Box<[Filter]>),
}

/// The key of a cached answer. Equal queries of the same class of readers have equal keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterKey {
    /// The query.
    pub query: CanonicalQuery,
    /// The readers.
    pub reader: ReaderClass,
}

impl FilterKey {
    /// The filters. An event belongs to the answer when one of them selects it.
    pub fn filters(&self) -> &[Filter] {
        match &self.query {
            CanonicalQuery::Rows(filter) => std::slice::from_ref(filter),
            CanonicalQuery::Count(filters) => filters,
        }
    }

    /// True when `event` is part of the answer.
    pub fn selects(&self, event: &Event) -> bool {
        self.filters().iter().any(|filter| filter.matches(event)) && self.shows(event)
    }

    /// True when the readers of this class may see `event`.
    pub(super) fn shows(&self, event: &Event) -> bool {
        match &self.reader {
            ReaderClass::Everyone => true,
            ReaderClass::Unauthenticated(private) => !private.contains(event.kind()),
        }
    }

    /// The digest that names the key in the shared layer: SHA-256 over the class, its kinds, and the text of the query.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match &self.reader {
            ReaderClass::Everyone => hash.update([0]),
            ReaderClass::Unauthenticated(private) => {
                hash.update([1]);
                hash.update((private.as_slice().len() as u64).to_be_bytes());
                private.as_slice().iter().for_each(|kind| hash.update(kind.0.to_be_bytes()));
            }
        }
        hash.update(self.query.to_string());
        hash.finalize().into()
    }
}

/// The filter as JSON; of a count, `COUNT` and the filters.
impl fmt::Display for CanonicalQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(filter) => f.write_str(&filter.to_json()),
            Self::Count(filters) => {
                f.write_str("COUNT")?;
                filters.iter().try_for_each(|filter| write!(f, " {}", filter.to_json()))
            }
        }
    }
}

/// A filter of at most this many ids is answered id by id; one of more ids is one query.
const FEW_IDS: usize = 64;

/// The ids of a filter that names a few ids and nothing else.
pub fn only_few_ids(filter: &Filter) -> Option<&[EventId]> {
    let Filter { ids, authors: None, kinds: None, tags, since: None, until: None, limit: _ } = filter else {
        return None;
    };
    ids.as_deref().filter(|ids| tags.is_empty() && ids.len() <= FEW_IDS)
}
