//! What an entry is found by: a canonical filter and who may be told.

use crate::types::Filter;
use sha2::{Digest, Sha256};

/// Whose answer it is. Readers of one class get the same rows for the same filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReaderClass {
    /// Anybody's: nothing that the filter selects could be private.
    Anybody,
    /// That of someone who has not authenticated.
    Nobody,
}

/// What an entry is found by. Equal questions of the same class of readers are equal keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterKey {
    /// The canonical filter; its `limit` is the entry's.
    pub filter: Filter,
    /// Who may be told.
    pub reader: ReaderClass,
}

impl FilterKey {
    /// A name that no other key has: SHA-256 over the filter as JSON and the class.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([match self.reader {
            ReaderClass::Anybody => 0,
            ReaderClass::Nobody => 1,
        }]);
        hash.update(self.filter.to_json());
        hash.finalize().into()
    }
}
