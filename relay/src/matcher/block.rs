//! A block: the memory that holds a value together with the filters that are filed under it.

use super::filing::{IndexKey, Part, SHORT};
use super::slab::Slab;
use super::subscribers::Posting;
use std::hash::RandomState;

/// Filters that fit into one block.
pub(super) const ROOM: usize = 4;

/// Blocks that one value may have. The filters of a more common value are in a list outside.
pub(super) const BLOCKS: u8 = 4;

/// In the place of the number of filters: they are in a list outside.
const ELSEWHERE: u8 = u8::MAX;

/// A value of a field, and filters that are filed under it: one cache line.
///
/// The table finds a second block of the same value by the same hash, nearby. So both are fetched at the same time,
/// while a list of its own could be fetched only once its address is known.
#[repr(align(64))]
pub(super) struct Block {
    /// Indexes of the filters; with [`ELSEWHERE`], the first is the index of the list outside.
    filters: [u32; ROOM],
    /// For each filter, which of its keys this is.
    ordinals: [u16; ROOM],
    head: u32,
    part: OwnedPart,
    /// Which block of its value this is, from 0.
    pub(super) number: u8,
    used: u8,
}

/// A [`Part`] that the block owns.
#[derive(Clone, Copy)]
pub(super) enum OwnedPart {
    Fixed([u8; 32]),
    Short(u8, [u8; SHORT]),
    /// The index in the slab of texts, as bytes: an aligned number would make the block larger than a cache line.
    Long([u8; 4]),
}

/// Texts that do not fit into a block.
pub(super) type Texts = Slab<Box<str>>;

impl OwnedPart {
    pub(super) fn new(part: &Part<'_>, texts: &mut Texts) -> Self {
        match part {
            Part::Fixed(bytes) => Self::Fixed(*bytes),
            Part::Short(length, bytes) => Self::Short(*length, *bytes),
            Part::Long(text) => Self::Long(texts.insert((*text).into()).to_ne_bytes()),
        }
    }

    /// Frees the text outside, if there is one.
    pub(super) fn free(self, texts: &mut Texts) {
        if let Self::Long(text) = self {
            texts.remove(u32::from_ne_bytes(text));
        }
    }
}

impl Block {
    /// An empty block.
    pub(super) const fn new(head: u32, part: OwnedPart, number: u8) -> Self {
        Self { filters: [0; ROOM], ordinals: [0; ROOM], head, part, number, used: 0 }
    }

    /// Compares in place: building a [`Part`] first costs 20 ns an event.
    pub(super) fn is_of(&self, key: &IndexKey<'_>, texts: &Texts) -> bool {
        self.head == key.head()
            && match (&self.part, &key.part) {
                (OwnedPart::Fixed(mine), Part::Fixed(theirs)) => mine == theirs,
                (OwnedPart::Short(length, mine), Part::Short(other, theirs)) => length == other && mine == theirs,
                (OwnedPart::Long(mine), Part::Long(theirs)) => {
                    texts.get(u32::from_ne_bytes(*mine)).is_some_and(|mine| **mine == **theirs)
                }
                _ => false,
            }
    }

    pub(super) fn hash(&self, secret: &RandomState, texts: &Texts) -> u64 {
        let part = match &self.part {
            OwnedPart::Fixed(bytes) => Part::Fixed(*bytes),
            OwnedPart::Short(length, bytes) => Part::Short(*length, *bytes),
            OwnedPart::Long(text) => Part::Long(texts.get(u32::from_ne_bytes(*text)).map_or("", |text| &**text)),
        };
        part.hash(self.head, secret)
    }

    pub(super) const fn part(&self) -> OwnedPart {
        self.part
    }

    /// A word of its memory, to prefetch the rest by.
    pub(super) const fn word(&self) -> u32 {
        self.head
    }

    /// The filters in this block.
    pub(super) fn filters(&self) -> &[u32] {
        self.filters.get(..usize::from(self.used)).unwrap_or_default()
    }

    /// The list that has all filters of this value, where it is outside.
    pub(super) fn elsewhere(&self) -> Option<u32> {
        self.filters.first().copied().filter(|_| self.used == ELSEWHERE)
    }

    /// Sets the list outside that has all filters of this value; `None` empties the block.
    pub(super) fn move_out(&mut self, place: Option<u32>) {
        self.used = if place.is_some() { ELSEWHERE } else { 0 };
        if let (Some(first), Some(place)) = (self.filters.first_mut(), place) {
            *first = place;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn get(&self, place: usize) -> Option<Posting> {
        let ordinal = u32::from(*self.ordinals.get(place)?);
        self.filters().get(place).map(|owner| Posting { owner: *owner, ordinal })
    }

    /// Overwrites a place. False, without a change, where `posting` does not fit.
    pub(super) fn set(&mut self, place: usize, posting: Posting) -> bool {
        let slots = self.filters.get_mut(place).zip(self.ordinals.get_mut(place));
        let Some(((owner, ordinal), short)) = slots.zip(u16::try_from(posting.ordinal).ok()) else { return false };
        (*owner, *ordinal) = (posting.owner, short);
        true
    }

    /// Adds a filter and returns its place in the list; `None` where it does not fit.
    pub(super) fn push(&mut self, posting: Posting) -> Option<u32> {
        let place = usize::from(self.used);
        self.set(place, posting).then(|| {
            self.used += 1;
            place as u32 + u32::from(self.number) * ROOM as u32
        })
    }

    /// Removes the last filter; returns its place in the list, and its posting.
    pub(super) fn pop(&mut self) -> Option<(u32, Posting)> {
        let last = usize::from(self.used).checked_sub(1)?;
        let posting = self.get(last)?;
        self.used -= 1;
        Some((last as u32 + u32::from(self.number) * ROOM as u32, posting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_one_cache_line() {
        assert_eq!((size_of::<Block>(), align_of::<Block>()), (64, 64));
    }
}
