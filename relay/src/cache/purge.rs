//! What an operator may purge from the cache.

use super::FilterKey;
use crate::types::{Filter, FilterError, PublicKey};
use std::fmt;
use std::str::FromStr;

/// What an operator purges on every instance. As text: `all`, `author=HEX`, or `filter=JSON`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Every entry.
    All,
    /// Every entry whose filters name this author.
    Author(PublicKey),
    /// Every entry of this filter, rows and counts, whatever `since`, `until` and `limit` say in either: a client's
    /// window moves with its clock. Of a filter of ids, the entry of each id.
    Filter(Filter),
}

/// Why a text names no purge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// None of the three forms.
    #[error("expected all, author=HEX or filter=JSON")]
    Form,
    /// Not a public key.
    #[error("expected an author as 64 lowercase hex characters")]
    Author,
    /// Not a filter.
    #[error("not a filter: {0}")]
    Filter(#[from] FilterError),
}

impl Purge {
    /// True when the entry of `key` is to be purged.
    pub fn concerns(&self, key: &FilterKey) -> bool {
        match self {
            Self::All => true,
            Self::Author(author) => key
                .filters()
                .iter()
                .filter_map(|filter| filter.authors.as_ref())
                .any(|authors| authors.binary_search(author).is_ok()),
            Self::Filter(filter) => key.filters().iter().any(|kept| covers(filter, kept)),
        }
    }
}

/// True when `filter` asks what `kept` asks, or the same of more ids, at any time.
fn covers(filter: &Filter, kept: &Filter) -> bool {
    let (Filter { ids, authors, kinds, tags, .. }, ids_kept) = (filter, &kept.ids);
    let same_ids = match (ids, ids_kept) {
        (Some(ids), Some(kept)) => kept.iter().all(|id| ids.binary_search(id).is_ok()),
        (ids, kept) => ids == kept,
    };
    same_ids && (authors, kinds, tags) == (&kept.authors, &kept.kinds, &kept.tags)
}

impl fmt::Display for Purge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Author(author) => write!(f, "author={author}"),
            Self::Filter(filter) => write!(f, "filter={}", filter.to_json()),
        }
    }
}

impl FromStr for Purge {
    type Err = PurgeError;

    fn from_str(text: &str) -> Result<Self, PurgeError> {
        match text.split_once('=') {
            None if text == "all" => Ok(Self::All),
            Some(("author", hex)) => {
                PublicKey::from_hex(hex.as_bytes()).map(Self::Author).map_err(|_| PurgeError::Author)
            }
            Some(("filter", json)) => Ok(Self::Filter(Filter::parse(json)?)),
            _ => Err(PurgeError::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let filter = Filter::parse("{\"kinds\":[1],\"#t\":[\"a=b\"],\"limit\":5}").unwrap();
        for purge in [Purge::All, Purge::Author(PublicKey::from_bytes([7; 32])), Purge::Filter(filter)] {
            assert_eq!(purge.to_string().parse(), Ok(purge));
        }
        for (text, wrong) in [("", PurgeError::Form), ("al", PurgeError::Form), ("author=zz", PurgeError::Author)] {
            assert_eq!(text.parse::<Purge>(), Err(wrong));
        }
        assert!(matches!("filter={}x".parse::<Purge>(), Err(PurgeError::Filter(_))));
    }
}
