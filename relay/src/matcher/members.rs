//! Who belongs to something: the filters under a value, the askers of a question.

/// One membership. The owner keeps its place, and it knows where the owner does so: that way it can leave a list of 100,000
/// without a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) owner: u32,
    /// Which of the owner's memberships this is.
    pub(super) ordinal: u32,
}

/// Takes out what is at `place`, where the last moves, and gives memory back that the list no longer needs.
pub(super) fn swap_remove<V>(list: &mut Vec<V>, place: usize) {
    list.swap_remove(place);
    if list.capacity() > 8 && list.len() < list.capacity() / 4 {
        list.shrink_to(list.len() * 2);
    }
}

/// Who asks a question.
pub(super) struct AskedBy<T> {
    pub(super) asker: Member,
    /// Whom to tell, if the asker asks nothing else: so it need not be looked up, nor remembered that it was told.
    pub(super) direct: Option<T>,
}

/// Those who ask one question, in no order. Mostly there is one, and that lies in the question itself: no memory of its own,
/// and none that an event would have to wait for.
pub(super) enum Askers<T> {
    One(AskedBy<T>),
    Many(Vec<AskedBy<T>>),
}

impl<T> Askers<T> {
    pub(super) const fn new() -> Self {
        Self::Many(Vec::new())
    }

    pub(super) fn as_slice(&self) -> &[AskedBy<T>] {
        match self {
            Self::One(asker) => std::slice::from_ref(asker),
            Self::Many(askers) => askers,
        }
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut AskedBy<T>> {
        match self {
            Self::One(asker) => Some(asker).filter(|_| place == 0),
            Self::Many(askers) => askers.get_mut(place as usize),
        }
    }

    /// Adds an asker and returns its place.
    pub(super) fn push(&mut self, asker: Member) -> u32 {
        let asked_by = AskedBy { asker, direct: None };
        *self = match std::mem::replace(self, Self::new()) {
            Self::One(first) => Self::Many(vec![first, asked_by]),
            Self::Many(askers) if askers.is_empty() => Self::One(asked_by),
            Self::Many(mut askers) => {
                askers.push(asked_by);
                Self::Many(askers)
            }
        };
        // Memory for 4 thousand million askers ends long before their numbers do.
        u32::try_from(self.as_slice().len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes out what is at `place`. Returns who has moved there, if anybody has.
    pub(super) fn swap_remove(&mut self, place: u32) -> Option<Member> {
        let place = place as usize;
        match self {
            Self::Many(askers) if place < askers.len() => {
                swap_remove(askers, place);
                if askers.len() == 1
                    && let Some(last) = askers.pop()
                {
                    *self = Self::One(last);
                }
            }
            Self::Many(_) => {}
            Self::One(_) => *self = Self::new(),
        }
        self.as_slice().get(place).map(|asked_by| asked_by.asker)
    }
}
