//! The filters that are filed under one value.

/// One filter in one list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posting {
    /// The filter.
    pub(super) question: u32,
    /// Which of the filter's keys this is.
    pub(super) ordinal: u32,
}

/// Postings in no order, at least one. Most values are asked for by one or two filters only, and those lie where the value
/// lies: no memory of their own, and none that an event would have to wait for.
pub(super) enum Members {
    One([Posting; 1]),
    Two([Posting; 2]),
    Many(Vec<Posting>),
}

impl Members {
    pub(super) fn as_slice(&self) -> &[Posting] {
        match self {
            Self::One(few) => few,
            Self::Two(few) => few,
            Self::Many(many) => many,
        }
    }

    /// Adds a posting and returns its place.
    pub(super) fn push(&mut self, posting: Posting) -> u32 {
        match self {
            Self::One([first]) => *self = Self::Two([*first, posting]),
            Self::Two([first, second]) => *self = Self::Many(vec![*first, *second, posting]),
            Self::Many(many) => many.push(posting),
        }
        // Memory for 4 thousand million postings ends long before their numbers do.
        u32::try_from(self.as_slice().len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes out what is at `place`, unless it is the only one. Returns what has moved there, if anything has.
    pub(super) fn swap_remove(&mut self, place: usize) -> Option<Posting> {
        match self {
            Self::One(_) => {}
            Self::Two([first, second]) => *self = Self::One([if place == 0 { *second } else { *first }]),
            Self::Many(many) if place < many.len() => {
                many.swap_remove(place);
                match **many {
                    [first, second] => *self = Self::Two([first, second]),
                    _ if many.capacity() > 8 && many.len() < many.capacity() / 4 => many.shrink_to(many.len() * 2),
                    _ => {}
                }
            }
            Self::Many(_) => {}
        }
        self.as_slice().get(place).copied()
    }
}
