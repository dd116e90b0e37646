//! The piece of memory in which a value lies together with the filters that are filed under it.

use super::filing::{IndexKey, Part, SHORT};
use super::slab::Slab;
use super::subscribers::Posting;
use std::hash::RandomState;

/// How many filters have room in one block.
pub(super) const ROOM: usize = 4;

/// How many blocks one value may have; the filters of a more common one lie elsewhere.
pub(super) const BLOCKS: u8 = 4;

/// Instead of the number of filters: they lie elsewhere.
const ELSEWHERE: u8 = u8::MAX;

/// A value of a field and filters that are filed under it: one cache line.
///
/// A second block of the same value lies nearby, since the table finds both by the same hash: so both are fetched at the
/// same time, while a list of its own would be fetched only after the place that says where it is.
#[repr(align(64))]
pub(super) struct Block {
    /// The filters, or in the first place where else they are.
    filters: [u32; ROOM],
    /// Which of the filter's keys this is.
    ordinals: [u16; ROOM],
    head: u32,
    part: OwnedPart,
    /// Which block of its value this is.
    pub(super) number: u8,
    used: u8,
}

/// A [`Part`] that is kept.
#[derive(Clone, Copy)]
pub(super) enum OwnedPart {
    Fixed([u8; 32]),
    Short(u8, [u8; SHORT]),
    /// Where in the slab of texts, in bytes: a number would make the block larger than a cache line.
    Long([u8; 4]),
}

/// Values that have no room in a block.
pub(super) type Texts = Slab<Box<str>>;

impl OwnedPart {
    pub(super) fn new(part: &Part<'_>, texts: &mut Texts) -> Self {
        match part {
            Part::Fixed(bytes) => Self::Fixed(*bytes),
            Part::Short(length, bytes) => Self::Short(*length, *bytes),
            Part::Long(text) => Self::Long(texts.insert((*text).into()).to_ne_bytes()),
        }
    }

    /// Gives back what it has outside.
    pub(super) fn free(self, texts: &mut Texts) {
        if let Self::Long(text) = self {
            texts.remove(u32::from_ne_bytes(text));
        }
    }
}

impl Block {
    /// An empty one.
    pub(super) const fn new(head: u32, part: OwnedPart, number: u8) -> Self {
        Self { filters: [0; ROOM], ordinals: [0; ROOM], head, part, number, used: 0 }
    }

    /// Compares where things lie: to make a [`Part`] first costs an event twenty nanoseconds.
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

    /// A word of its memory.
    pub(super) const fn word(&self) -> u32 {
        self.head
    }

    /// The filters that lie here.
    pub(super) fn filters(&self) -> &[u32] {
        self.filters.get(..usize::from(self.used)).unwrap_or_default()
    }

    /// Where all filters of this value are, if not here.
    pub(super) fn elsewhere(&self) -> Option<u32> {
        self.filters.first().copied().filter(|_| self.used == ELSEWHERE)
    }

    /// Says that all filters of this value are elsewhere; or, with `None`, that there are none.
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

    /// Overwrites a place. False, and nothing has changed, if `posting` does not fit in.
    pub(super) fn set(&mut self, place: usize, posting: Posting) -> bool {
        let slots = self.filters.get_mut(place).zip(self.ordinals.get_mut(place));
        let Some(((owner, ordinal), short)) = slots.zip(u16::try_from(posting.ordinal).ok()) else { return false };
        (*owner, *ordinal) = (posting.owner, short);
        true
    }

    /// Adds a filter and returns its place in the list, if it fits in.
    pub(super) fn push(&mut self, posting: Posting) -> Option<u32> {
        let place = usize::from(self.used);
        self.set(place, posting).then(|| {
            self.used += 1;
            place as u32 + u32::from(self.number) * ROOM as u32
        })
    }

    /// Takes the last filter out, and says which place of the list it had.
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
