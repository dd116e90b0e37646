//! Postings: which filters are filed under a value.
//!
//! One hash table holds the values themselves, so an event that finds a filter satisfies the condition on its field,
//! and need not compare that. The filters of a value are in up to [`BLOCKS`] blocks, which form one list; longer lists
//! are outside. A posting knows where its filter notes the place, so it leaves a list of 100,000 without a search.
//!
//! The hash is SipHash under a secret of the process: a client cannot choose values that collide (hash flooding).

use super::block::{BLOCKS, Block, OwnedPart, ROOM, Texts};
use super::filing::{Field, IndexKey};
use super::prefetch;
use super::slab::Slab;
use super::subscribers::{Posting, swap_remove};
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::hash::RandomState;

/// The postings lists; see the module.
pub(super) struct Postings {
    blocks: HashTable<Block>,
    texts: Texts,
    /// The lists that are too long for blocks.
    long: Slab<Vec<Posting>>,
    secret: RandomState,
    /// The number of postings of each sort of field: where it is 0, nothing is looked up.
    filed: [usize; Field::TYPES],
}

/// A key and its hash. The order puts equal keys side by side, even between different keys of one hash.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HashedIndexKey<'a> {
    hash: u64,
    key: IndexKey<'a>,
}

impl Postings {
    pub(super) fn new() -> Self {
        Self {
            blocks: HashTable::new(),
            texts: Texts::new(),
            long: Slab::new(),
            secret: RandomState::new(),
            filed: [0; Field::TYPES],
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.texts.len() == 0 && self.long.len() == 0 && self.filed == [0; Field::TYPES]
    }

    /// False when no filter is filed under this sort of field.
    pub(super) fn has(&self, field: Field) -> bool {
        self.filed.get(field.type_number()).is_none_or(|count| *count > 0)
    }

    /// Hashes a key for [`look_up`](Self::look_up).
    pub(super) fn hashed<'a>(&self, key: IndexKey<'a>) -> HashedIndexKey<'a> {
        HashedIndexKey { hash: key.part.hash(key.head(), &self.secret), key }
    }

    /// Appends to `found` the filters that are filed under `keys`.
    ///
    /// It works in stages, each of which reads memory that the one before has located: so the processor waits for all
    /// keys at once, not for one after the other.
    pub(super) fn look_up(&self, keys: &[HashedIndexKey<'_>], found: &mut Vec<u32>) {
        // Creating such an iterator reads the table's directory at that hash.
        let near: SmallVec<[_; 8]> = keys.iter().map(|key| self.blocks.iter_hash(key.hash)).collect();
        let mut blocks = SmallVec::<[(&IndexKey<'_>, &Block); 16]>::new();
        for (key, near) in keys.iter().zip(near) {
            for block in near {
                blocks.push((&key.key, block));
            }
        }
        prefetch(blocks.iter().map(|(_, block)| block.word()));
        for (_, block) in blocks.iter().filter(|(key, block)| block.is_of(key, &self.texts)) {
            match block.elsewhere() {
                None => found.extend_from_slice(block.filters()),
                Some(list) => found.extend(self.long.get(list).into_iter().flatten().map(|posting| posting.owner)),
            }
        }
    }

    /// The number of the last block of a key.
    fn last_block(&self, key: &HashedIndexKey<'_>) -> Option<u8> {
        let near = self.blocks.iter_hash(key.hash);
        near.filter(|block| block.is_of(&key.key, &self.texts)).map(|block| block.number).max()
    }

    fn block_mut(&mut self, key: &HashedIndexKey<'_>, number: u8) -> Option<&mut Block> {
        let texts = &self.texts;
        self.blocks.find_mut(key.hash, |block| block.number == number && block.is_of(&key.key, texts))
    }

    fn remove_block(&mut self, key: &HashedIndexKey<'_>, number: u8) {
        let texts = &self.texts;
        let found = self.blocks.find_entry(key.hash, |block| block.number == number && block.is_of(&key.key, texts));
        let Ok(block) = found.map(|found| found.remove().0) else { return };
        // The blocks of a key share the text outside; block 0 is the last to go.
        if number == 0 {
            block.part().free(&mut self.texts);
        }
    }

    /// Files a filter under a key; returns its place in the list.
    pub(super) fn insert(&mut self, key: IndexKey<'_>, posting: Posting) -> u32 {
        if let Some(count) = self.filed.get_mut(key.field.type_number()) {
            *count += 1;
        }
        let key = self.hashed(key);
        let last = self.last_block(&key);
        let mut part = None;
        if let Some(block) = last.and_then(|last| self.block_mut(&key, last)) {
            if let Some(place) = block.push(posting) {
                return place;
            }
            part = Some(block.part());
            if let Some(list) = block.elsewhere().and_then(|list| self.long.get_mut(list)) {
                list.push(posting);
                // Memory runs out long before there are 2^32 postings.
                return u32::try_from(list.len() - 1).unwrap_or(u32::MAX);
            }
        }

        let number = last.map_or(0, |last| last + 1);
        let part = part.unwrap_or_else(|| OwnedPart::new(&key.key.part, &mut self.texts));
        let mut block = Block::new(key.key.head(), part, number);
        let place = if number < BLOCKS { block.push(posting) } else { None };
        if place.is_some() || number == 0 {
            let Self { blocks, texts, secret, .. } = self;
            blocks.insert_unique(key.hash, block, |block| block.hash(secret, texts));
        }
        place.unwrap_or_else(|| self.move_out(&key, posting))
    }

    /// Moves the postings of a key, and one more, out of its blocks into a list; returns the place of that one.
    fn move_out(&mut self, key: &HashedIndexKey<'_>, posting: Posting) -> u32 {
        let mut list = Vec::new();
        for number in (0..BLOCKS).rev() {
            let Some(block) = self.block_mut(key, number) else { continue };
            while let Some((_, posting)) = block.pop() {
                list.push(posting);
            }
            if number > 0 {
                self.remove_block(key, number);
            }
        }

        list.reverse();
        list.push(posting);
        let place = u32::try_from(list.len() - 1).unwrap_or(u32::MAX);
        let list = self.long.insert(list);
        if let Some(block) = self.block_mut(key, 0) {
            block.move_out(Some(list));
        }
        place
    }

    /// Removes what is at `place` of the key's list. Returns the posting that has moved there, if one has.
    pub(super) fn remove(&mut self, key: IndexKey<'_>, place: u32) -> Option<Posting> {
        let field_type = key.field.type_number();
        let key = self.hashed(key);
        let last = self.last_block(&key)?;
        if let Some(count) = self.filed.get_mut(field_type) {
            *count -= 1;
        }
        let block = self.block_mut(&key, last)?;
        if let Some(list) = block.elsewhere() {
            return self.remove_long(&key, list, place);
        }

        let (from, posting) = block.pop()?;
        if block.is_empty() {
            self.remove_block(&key, last);
        }
        if from == place {
            return None;
        }
        let target = self.block_mut(&key, u8::try_from(place / ROOM as u32).ok()?)?;
        target.set(place as usize % ROOM, posting).then_some(posting)
    }

    /// Removes what is at `place` of a list outside, and moves a list back into a block once it is short enough.
    fn remove_long(&mut self, key: &HashedIndexKey<'_>, index: u32, place: u32) -> Option<Posting> {
        let list = self.long.get_mut(index)?;
        if place as usize >= list.len() {
            return None;
        }
        swap_remove(list, place as usize);
        let moved = list.get(place as usize).copied();

        // Half a block, so that a list whose length varies around the limit does not move with every step.
        if list.len() <= ROOM / 2 && list.iter().all(|posting| u16::try_from(posting.ordinal).is_ok()) {
            let list = self.long.remove(index)?;
            let block = self.block_mut(key, 0)?;
            block.move_out(None);
            let placed = list.into_iter().filter_map(|posting| block.push(posting)).count();
            if placed == 0 {
                self.remove_block(key, 0);
            }
        }
        moved
    }
}
