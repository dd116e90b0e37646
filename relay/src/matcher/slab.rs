//! Values that keep their index: an arena that reuses the places of what was removed.

/// No index: the end of a chain.
pub(super) const NONE: u32 = u32::MAX;

pub(super) enum Place<V> {
    Taken(V),
    /// Free; carries the next free place.
    Free(u32),
}

/// An arena of at most `u32::MAX` values. Every operation takes constant time.
pub(super) struct Slab<V> {
    places: Vec<Place<V>>,
    free: u32,
    len: usize,
}

impl<V> Slab<V> {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), free: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The index that the next value gets.
    pub(super) fn vacant(&self) -> u32 {
        // Memory for 4 thousand million places ends long before their numbers do.
        if self.free == NONE { u32::try_from(self.places.len()).unwrap_or(NONE) } else { self.free }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.places.iter().filter_map(|place| match place {
            Place::Taken(value) => Some(value),
            Place::Free(_) => None,
        })
    }

    /// Stores `value` and returns its index.
    pub(super) fn insert(&mut self, value: V) -> u32 {
        self.len += 1;
        let index = self.vacant();
        match self.places.get_mut(index as usize) {
            Some(place) => {
                if let Place::Free(next) = *place {
                    self.free = next;
                }
                *place = Place::Taken(value);
                index
            }
            None => {
                self.places.push(Place::Taken(value));
                index
            }
        }
    }

    /// Takes the value at `index` out, if there is one.
    pub(super) fn remove(&mut self, index: u32) -> Option<V> {
        let place = self.places.get_mut(index as usize)?;
        if matches!(place, Place::Free(_)) {
            return None;
        }
        let Place::Taken(value) = std::mem::replace(place, Place::Free(self.free)) else { return None };
        self.free = index;
        self.len -= 1;
        Some(value)
    }

    pub(super) fn get(&self, index: u32) -> Option<&V> {
        match self.places.get(index as usize) {
            Some(Place::Taken(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut V> {
        match self.places.get_mut(index as usize) {
            Some(Place::Taken(value)) => Some(value),
            _ => None,
        }
    }
}
