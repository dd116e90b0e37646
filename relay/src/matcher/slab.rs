//! A slab: values keep their index, and the slots of removed values are reused.

/// No index: the end of the free list.
pub(super) const NONE: u32 = u32::MAX;

pub(super) enum SlabSlot<V> {
    Taken(V),
    /// Free; has the index of the next free slot.
    Free(u32),
}

/// An arena of at most `u32::MAX` values. Every operation takes constant time.
pub(super) struct Slab<V> {
    slots: Vec<SlabSlot<V>>,
    free: u32,
    len: usize,
}

impl<V> Slab<V> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The index that the next value will get.
    pub(super) fn vacant(&self) -> u32 {
        // Memory runs out long before there are 2^32 slots.
        if self.free == NONE { u32::try_from(self.slots.len()).unwrap_or(NONE) } else { self.free }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().filter_map(|slot| match slot {
            SlabSlot::Taken(value) => Some(value),
            SlabSlot::Free(_) => None,
        })
    }

    /// Stores `value`; returns its index.
    pub(super) fn insert(&mut self, value: V) -> u32 {
        self.len += 1;
        let index = self.vacant();
        match self.slots.get_mut(index as usize) {
            Some(slot) => {
                if let SlabSlot::Free(next) = *slot {
                    self.free = next;
                }
                *slot = SlabSlot::Taken(value);
                index
            }
            None => {
                self.slots.push(SlabSlot::Taken(value));
                index
            }
        }
    }

    /// Removes the value at `index`, if there is one.
    pub(super) fn remove(&mut self, index: u32) -> Option<V> {
        let slot = self.slots.get_mut(index as usize)?;
        if matches!(slot, SlabSlot::Free(_)) {
            return None;
        }
        let SlabSlot::Taken(value) = std::mem::replace(slot, SlabSlot::Free(self.free)) else { return None };
        self.free = index;
        self.len -= 1;
        Some(value)
    }

    pub(super) fn get(&self, index: u32) -> Option<&V> {
        match self.slots.get(index as usize) {
            Some(SlabSlot::Taken(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut V> {
        match self.slots.get_mut(index as usize) {
            Some(SlabSlot::Taken(value)) => Some(value),
            _ => None,
        }
    }
}
