//! What an answer is found by: what is asked, in canonical form, and who may be told.

use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Access, Event, EventId, Filter, PrivateKinds};
use sha2::{Digest, Sha256};
use std::fmt;

/// Whose answer it is. Readers of one class get the same rows for the same filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReaderClass {
    /// Anybody's: nothing that is asked for could be private.
    Anybody,
    /// That of someone who has not authenticated: all but the events of these kinds, which an operator may change.
    Nobody(PrivateKinds),
}

impl ReaderClass {
    /// The class in which `access` reads `filters`; `None`: what they get is theirs alone (NIP-42, NIP-59).
    pub fn of(filters: &[Filter], access: &Access) -> Option<Self> {
        if filters.iter().all(|filter| access.unrestricted(filter)) || ablated(Safeguard::ReaderClasses) {
            Some(Self::Anybody)
        } else if access.authenticated.is_empty() {
            Some(Self::Nobody(access.private_kinds.clone()))
        } else {
            None
        }
    }

    /// The access of everyone in this class.
    pub fn access(&self) -> Access {
        let private_kinds = match self {
            Self::Anybody => PrivateKinds::new(Vec::new()),
            Self::Nobody(private) => private.clone(),
        };
        Access { private_kinds, ..Access::default() }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ask {
    /// The newest events of a canonical filter, without `limit`: how many rows an entry has room for is the entry's own.
    Rows(Filter),
    /// How many events at least one of these filters selects: in order, each once, without `limit`.
    Count(Box<[Filter]>),
}

/// What an answer is found by. Equal queries of the same class of readers are equal keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterKey {
    /// What is asked.
    pub ask: Ask,
    /// Who may be told.
    pub reader: ReaderClass,
}

impl FilterKey {
    /// The filters: an event concerns the answer that one of them selects.
    pub fn filters(&self) -> &[Filter] {
        match &self.ask {
            Ask::Rows(filter) => std::slice::from_ref(filter),
            Ask::Count(filters) => filters,
        }
    }

    /// True when `event` belongs into the answer of this key.
    pub fn selects(&self, event: &Event) -> bool {
        self.filters().iter().any(|filter| filter.matches(event)) && self.shows(event)
    }

    /// True when readers of this class may be sent `event`.
    pub(super) fn shows(&self, event: &Event) -> bool {
        match &self.reader {
            ReaderClass::Anybody => true,
            ReaderClass::Nobody(private) => !private.contains(event.kind()),
        }
    }

    /// A name that no other key has: SHA-256 over the class, its kinds, and what is asked as text.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match &self.reader {
            ReaderClass::Anybody => hash.update([0]),
            ReaderClass::Nobody(private) => {
                hash.update([1]);
                hash.update((private.as_slice().len() as u64).to_be_bytes());
                private.as_slice().iter().for_each(|kind| hash.update(kind.0.to_be_bytes()));
            }
        }
        hash.update(self.ask.to_string());
        hash.finalize().into()
    }
}

/// The filter as JSON; of a count, `COUNT` and the filters.
impl fmt::Display for Ask {
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

/// So many ids are as many queries; more are one.
const FEW_IDS: usize = 64;

/// The ids of a filter that asks for a few events by their ids and nothing else.
pub fn only_few_ids(filter: &Filter) -> Option<&[EventId]> {
    let Filter { ids, authors: None, kinds: None, tags, since: None, until: None, limit: _ } = filter else {
        return None;
    };
    ids.as_deref().filter(|ids| tags.is_empty() && ids.len() <= FEW_IDS)
}
