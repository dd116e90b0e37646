//! What an operator may have forgotten.

use super::FilterKey;
use crate::types::{Filter, PublicKey};

/// What an operator wants forgotten, on every instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Everything.
    All,
    /// Every filter that names this author.
    Author(PublicKey),
    /// This filter, whatever its `limit`.
    Filter(Filter),
}

impl Purge {
    /// True when the entry of `key` is to be forgotten.
    pub fn concerns(&self, key: &FilterKey) -> bool {
        match self {
            Self::All => true,
            Self::Author(author) => {
                key.filter.authors.as_ref().is_some_and(|authors| authors.binary_search(author).is_ok())
            }
            Self::Filter(filter) => Filter { limit: key.filter.limit, ..filter.clone() } == key.filter,
        }
    }
}
