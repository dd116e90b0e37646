//! Who belongs to something: whom a question is asked by.

/// One entry. The owner keeps the entry's place, and the entry knows where the owner does so: that way it can leave a list
/// of 100,000 without a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) owner: u32,
    /// Which of the owner's memberships this is.
    pub(super) ordinal: u32,
}

/// Members in no order. Mostly there are one or two, and those lie where the thing itself lies: no memory of their own, and
/// none that an event would have to wait for.
pub(super) enum Members<T> {
    /// The only one, and perhaps what else is to be known of it.
    One(Member, Option<T>),
    Two([Member; 2]),
    Many(Vec<Member>),
}

impl<T> Members<T> {
    pub(super) const fn new() -> Self {
        Self::Many(Vec::new())
    }

    pub(super) fn as_slice(&self) -> &[Member] {
        match self {
            Self::One(member, _) => std::slice::from_ref(member),
            Self::Two(members) => members,
            Self::Many(members) => members,
        }
    }

    /// Adds a member and returns its place.
    pub(super) fn push(&mut self, member: Member) -> u32 {
        match self {
            Self::One(first, _) => *self = Self::Two([*first, member]),
            Self::Two([first, second]) => *self = Self::Many(vec![*first, *second, member]),
            Self::Many(members) if members.is_empty() => *self = Self::One(member, None),
            Self::Many(members) => members.push(member),
        }
        // Memory for 4 thousand million members ends long before their numbers do.
        u32::try_from(self.as_slice().len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes out what is at `place`. Returns the member that has moved there, if one has.
    pub(super) fn swap_remove(&mut self, place: u32) -> Option<Member> {
        let place = place as usize;
        match self {
            Self::One(..) => *self = Self::new(),
            Self::Two([first, second]) => *self = Self::One(if place == 0 { *second } else { *first }, None),
            Self::Many(members) if place < members.len() => {
                members.swap_remove(place);
                if let [first, second] = **members {
                    *self = Self::Two([first, second]);
                } else if members.capacity() > 8 && members.len() < members.capacity() / 4 {
                    members.shrink_to(members.len() * 2);
                }
            }
            Self::Many(_) => {}
        }
        self.as_slice().get(place).copied()
    }
}
