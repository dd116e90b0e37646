//! Which filters are filed under a value.
//!
//! The lists lie in one hash table that holds the values themselves, so whatever is found meets the condition on the
//! field that it is filed under: nobody need look at its filter for that. A list is contiguous, and a posting knows
//! where its owner keeps track of it, so it leaves a list of 100,000 without a search.
//!
//! The hash is SipHash under a secret of the process, so a client can not choose values that meet in one place (hash
//! flooding).

use super::filing::{Field, Key, Part};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher, Hasher, RandomState};

/// One filter in one list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posting {
    /// The filter.
    pub(super) question: u32,
    /// Which of the filter's keys this is.
    pub(super) ordinal: u32,
}

/// A value of a field, and who is filed under it.
struct List {
    hash: u32,
    head: u32,
    part: OwnedPart,
    postings: Vec<Posting>,
}

enum OwnedPart {
    Fixed([u8; 32]),
    Text(Box<str>),
}

/// See the module.
pub(super) struct Postings {
    lists: HashTable<List>,
    secret: RandomState,
    /// How many postings each sort of field has: where there is none, nothing is looked up.
    filed: [usize; Field::SORTS],
}

/// A key and its hash.
pub(super) struct Hashed<'a> {
    hash: u32,
    key: Key<'a>,
}

impl PartialEq for Hashed<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl Hashed<'_> {
    /// Brings equal keys together.
    pub(super) fn order(&self) -> u32 {
        self.hash
    }
}

impl List {
    fn is_of(&self, key: &Hashed<'_>) -> bool {
        self.hash == key.hash
            && self.head == key.key.head()
            && match (&self.part, &key.key.part) {
                (OwnedPart::Fixed(mine), Part::Fixed(theirs)) => mine == theirs,
                (OwnedPart::Text(mine), Part::Text(theirs)) => **mine == **theirs,
                _ => false,
            }
    }
}

impl Postings {
    pub(super) fn new() -> Self {
        Self { lists: HashTable::new(), secret: RandomState::new(), filed: [0; Field::SORTS] }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// False when no filter is filed under this sort of field.
    pub(super) fn has(&self, field: Field) -> bool {
        self.filed.get(field.sort()).is_none_or(|count| *count > 0)
    }

    /// Prepares a key to be looked up.
    pub(super) fn hashed<'a>(&self, key: Key<'a>) -> Hashed<'a> {
        let mut hasher = self.secret.build_hasher();
        match &key.part {
            Part::Fixed(bytes) => hasher.write(bytes),
            Part::Text(text) => hasher.write(text.as_bytes()),
        }
        hasher.write_u32(key.head());
        Hashed { hash: (hasher.finish() >> 32) as u32, key }
    }

    /// What is filed under a key.
    pub(super) fn get(&self, key: &Hashed<'_>) -> &[Posting] {
        self.lists.find(spread(key.hash), |list| list.is_of(key)).map_or(&[], |list| &list.postings)
    }

    /// Files a filter under a key and returns its place in the list.
    pub(super) fn insert(&mut self, key: Key<'_>, posting: Posting) -> u32 {
        if let Some(count) = self.filed.get_mut(key.field.sort()) {
            *count += 1;
        }
        let key = self.hashed(key);
        let list = match self.lists.entry(spread(key.hash), |list| list.is_of(&key), |list| spread(list.hash)) {
            Entry::Occupied(list) => list.into_mut(),
            Entry::Vacant(place) => {
                let Hashed { hash, key } = key;
                let head = key.head();
                let part = match key.part {
                    Part::Fixed(bytes) => OwnedPart::Fixed(bytes),
                    Part::Text(text) => OwnedPart::Text(text.into()),
                };
                place.insert(List { hash, head, part, postings: Vec::with_capacity(1) }).into_mut()
            }
        };
        list.postings.push(posting);
        // Memory for 4 thousand million postings ends long before their numbers do.
        u32::try_from(list.postings.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes out what is at `place` of the key's list. Returns the posting that has moved there, if one has.
    pub(super) fn remove(&mut self, key: Key<'_>, place: u32) -> Option<Posting> {
        let sort = key.field.sort();
        let key = self.hashed(key);
        let mut entry = self.lists.find_entry(spread(key.hash), |list| list.is_of(&key)).ok()?;
        let (postings, place) = (&mut entry.get_mut().postings, place as usize);
        if place >= postings.len() {
            return None;
        }
        postings.swap_remove(place);
        if let Some(count) = self.filed.get_mut(sort) {
            *count -= 1;
        }
        if postings.capacity() > 8 && postings.len() < postings.capacity() / 4 {
            postings.shrink_to(postings.len() * 2);
        }
        let moved = postings.get(place).copied();
        if postings.is_empty() {
            entry.remove();
        }
        moved
    }
}

/// A hash table wants 64 well-mixed bits; these 32 are random already, but only at one end after widening.
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
