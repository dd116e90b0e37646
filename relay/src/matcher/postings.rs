//! Which filters are filed under a value.
//!
//! The lists lie in one hash table that holds the values themselves, so whatever is found meets the condition on the
//! field that it is filed under: nobody need look at its filter for that. A list is contiguous, and a posting knows
//! where its owner keeps track of it, so it leaves a list of 100,000 without a search.
//!
//! The hash is SipHash under a secret of the process, so a client can not choose values that meet in one place (hash
//! flooding).

use super::filing::{Field, Key, Part, SHORT};
use super::members::{Member, Members};
use super::slab::Slab;
use super::touch;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A value of a field, and who is filed under it: one cache line.
#[repr(align(64))]
struct List {
    head: u32,
    part: OwnedPart,
    postings: Members<()>,
}

/// A [`Part`] that is kept.
enum OwnedPart {
    Fixed([u8; 32]),
    Short(u8, [u8; SHORT]),
    /// Where in [`Postings::texts`].
    Long(u32),
}

/// See the module.
pub(super) struct Postings {
    lists: HashTable<List>,
    /// Values that have no room in a list.
    texts: Slab<Box<str>>,
    secret: RandomState,
    /// How many postings each sort of field has: where there is none, nothing is looked up.
    filed: [usize; Field::SORTS],
}

/// A key and its hash.
pub(super) struct Hashed<'a> {
    hash: u64,
    key: Key<'a>,
}

impl PartialEq for Hashed<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl Hashed<'_> {
    /// Brings equal keys together.
    pub(super) fn order(&self) -> u64 {
        self.hash
    }
}

impl List {
    fn is_of(&self, key: &Key<'_>, texts: &Slab<Box<str>>) -> bool {
        self.head == key.head() && self.part.as_part(texts) == Some(key.part)
    }
}

impl OwnedPart {
    fn as_part<'a>(&self, texts: &'a Slab<Box<str>>) -> Option<Part<'a>> {
        Some(match self {
            Self::Fixed(bytes) => Part::Fixed(*bytes),
            Self::Short(length, bytes) => Part::Short(*length, *bytes),
            Self::Long(text) => Part::Long(texts.get(*text)?),
        })
    }
}

fn hash(secret: &RandomState, head: u32, part: &Part<'_>) -> u64 {
    let mut hasher = secret.build_hasher();
    match part {
        Part::Fixed(bytes) => hasher.write(bytes),
        Part::Short(_, bytes) => hasher.write(bytes),
        Part::Long(text) => hasher.write(text.as_bytes()),
    }
    hasher.write_u32(head);
    hasher.finish()
}

impl Postings {
    pub(super) fn new() -> Self {
        Self { lists: HashTable::new(), texts: Slab::new(), secret: RandomState::new(), filed: [0; Field::SORTS] }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.texts.len() == 0
    }

    /// False when no filter is filed under this sort of field.
    pub(super) fn has(&self, field: Field) -> bool {
        self.filed.get(field.sort()).is_none_or(|count| *count > 0)
    }

    /// Prepares a key to be looked up.
    pub(super) fn hashed<'a>(&self, key: Key<'a>) -> Hashed<'a> {
        Hashed { hash: hash(&self.secret, key.head(), &key.part), key }
    }

    /// Appends to `found` what is filed under `keys`.
    ///
    /// In stages, each of which reads what the one before has found in memory: so the processor waits for all keys at
    /// once, not for one after the other.
    pub(super) fn look_up(&self, keys: &[Hashed<'_>], found: &mut Vec<u32>) {
        // To make an iterator reads the table's directory at that hash.
        let near: SmallVec<[_; 8]> = keys.iter().map(|key| (key, self.lists.iter_hash(key.hash))).collect();
        let near: SmallVec<[_; 8]> =
            near.into_iter().flat_map(|(key, lists)| lists.map(move |list| (key, list))).collect();
        touch(near.iter().map(|(_, list)| list.head));
        let lists = near.iter().filter(|(key, list)| list.is_of(&key.key, &self.texts));
        let lists: SmallVec<[&[Member]; 8]> = lists.map(|(_, list)| list.postings.as_slice()).collect();
        touch(lists.iter().filter_map(|list| list.first()).map(|posting| posting.owner));
        lists.iter().for_each(|list| found.extend(list.iter().map(|posting| posting.owner)));
    }

    /// Files a filter under a key and returns its place in the list.
    pub(super) fn insert(&mut self, key: Key<'_>, posting: Member) -> u32 {
        if let Some(count) = self.filed.get_mut(key.field.sort()) {
            *count += 1;
        }
        let Hashed { hash: hash_of_key, key } = self.hashed(key);
        let Self { lists, texts, secret, .. } = self;
        let rehash = |list: &List| list.part.as_part(texts).map_or(0, |part| hash(secret, list.head, &part));
        match lists.entry(hash_of_key, |list| list.is_of(&key, texts), rehash) {
            Entry::Occupied(list) => list.into_mut().postings.push(posting),
            Entry::Vacant(place) => {
                let part = match key.part {
                    Part::Fixed(bytes) => OwnedPart::Fixed(bytes),
                    Part::Short(length, bytes) => OwnedPart::Short(length, bytes),
                    Part::Long(text) => OwnedPart::Long(texts.insert(text.into())),
                };
                place.insert(List { head: key.head(), part, postings: Members::One(posting, None) });
                0
            }
        }
    }

    /// Takes out what is at `place` of the key's list. Returns the posting that has moved there, if one has.
    pub(super) fn remove(&mut self, key: Key<'_>, place: u32) -> Option<Member> {
        let sort = key.field.sort();
        let Hashed { hash, key } = self.hashed(key);
        let Self { lists, texts, filed, .. } = self;
        let mut entry = lists.find_entry(hash, |list| list.is_of(&key, texts)).ok()?;
        let postings = &mut entry.get_mut().postings;
        let left = postings.as_slice().len().checked_sub(1).filter(|last| place as usize <= *last)?;
        if let Some(count) = filed.get_mut(sort) {
            *count -= 1;
        }
        if left == 0 {
            if let OwnedPart::Long(text) = entry.remove().0.part {
                texts.remove(text);
            }
            return None;
        }
        postings.swap_remove(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_one_cache_line() {
        assert_eq!(size_of::<List>(), 64);
    }
}
