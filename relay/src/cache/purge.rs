//! What an operator may want forgotten.

use super::FilterKey;
use crate::types::{Filter, FilterError, PublicKey};
use std::fmt;
use std::str::FromStr;

/// What an operator wants forgotten, on every instance. As text: `all`, `author=HEX`, or `filter=JSON`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Everything.
    All,
    /// Every filter that names this author.
    Author(PublicKey),
    /// This filter, whatever its `since`, `until` and `limit`: entries answer many of those.
    Filter(Filter),
}

/// Why a text names nothing to purge.
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
    /// True when the entry of `key` is to be forgotten.
    pub fn concerns(&self, key: &FilterKey) -> bool {
        match self {
            Self::All => true,
            Self::Author(author) => {
                key.filter.authors.as_ref().is_some_and(|authors| authors.binary_search(author).is_ok())
            }
            Self::Filter(filter) => {
                let Filter { since, until, limit, .. } = key.filter;
                Filter { since, until, limit, ..filter.clone() } == key.filter
            }
        }
    }
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
