//! A slab: values keep their index, and the slots of removed values are reused.

/// No index: the end of the free list.
pub(super) const NONE: u32 = u32::MAX;

pub(super) enum Slot<V> {
    Taken(V),
    /// Free; has the index of the next free slot.
    Free(u32),
}

/// An arena of at most `u32::MAX` values. Every operation takes constant time.
pub(super) struct Slab<V> {
    slots: Vec<Slot<V>>,
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
        // The memory for 4 thousand million slots ends long before their numbers do.
        if self.free == NONE { u32::try_from(self.slots.len()).unwrap_or(NONE) } else { self.free }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        })
    }

    /// Stores `value`; returns its index.
    pub(super) fn insert(&mut self, value: V) -> u32 {
        self.len += 1;
        let index = self.vacant();
        match self.slots.get_mut(index as usize) {
            Some(slot) => {
                if let Slot::Free(next) = *slot {
                    self.free = next;
                }
                *slot = Slot::Taken(value);
                index
            }
            None => {
                self.slots.push(Slot::Taken(value));
                index
            }
        }
    }

    /// Removes the value at `index`, if there is one.
    pub(super) fn remove(&mut self, index: u32) -> Option<V> {
        let slot = self.slots.get_mut(index as usize)?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        let Slot::Taken(value) = std::mem::replace(slot, Slot::Free(self.free)) else { return None };
        self.free = index;
        self.len -= 1;
        Some(value)
    }

    pub(super) fn get(&self, index: u32) -> Option<&V> {
        match self.slots.get(index as usize) {
            Some(Slot::Taken(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut V> {
        match self.slots.get_mut(index as usize) {
            Some(Slot::Taken(value)) => Some(value),
            _ => None,
        }
    }
}
