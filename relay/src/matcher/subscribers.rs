//! Who belongs to something: the filters under a value, the subscribers of a filter.

/// One membership. The owner keeps its place, and it knows where the owner does so: that way it can leave a list of 100,000
/// without a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posting {
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

/// Who asks a filter.
pub(super) struct SubscriberRef<T> {
    pub(super) subscriber: Posting,
    /// Whom to tell, if the subscriber asks nothing else: so it need not be looked up, nor remembered that it was told.
    pub(super) direct: Option<T>,
}

/// Those who ask one filter, in no order. Mostly there is one, and that lies in the filter itself: no memory of its own,
/// and none that an event would have to wait for.
pub(super) enum Subscribers<T> {
    One(SubscriberRef<T>),
    Many(Vec<SubscriberRef<T>>),
}

impl<T> Subscribers<T> {
    pub(super) const fn new() -> Self {
        Self::Many(Vec::new())
    }

    pub(super) fn as_slice(&self) -> &[SubscriberRef<T>] {
        match self {
            Self::One(subscriber) => std::slice::from_ref(subscriber),
            Self::Many(subscribers) => subscribers,
        }
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut SubscriberRef<T>> {
        match self {
            Self::One(subscriber) => Some(subscriber).filter(|_| place == 0),
            Self::Many(subscribers) => subscribers.get_mut(place as usize),
        }
    }

    /// Adds a subscriber and returns its place.
    pub(super) fn push(&mut self, subscriber: Posting) -> u32 {
        let subscriber_ref = SubscriberRef { subscriber, direct: None };
        *self = match std::mem::replace(self, Self::new()) {
            Self::One(first) => Self::Many(vec![first, subscriber_ref]),
            Self::Many(subscribers) if subscribers.is_empty() => Self::One(subscriber_ref),
            Self::Many(mut subscribers) => {
                subscribers.push(subscriber_ref);
                Self::Many(subscribers)
            }
        };
        // Memory for 4 thousand million subscribers ends long before their numbers do.
        u32::try_from(self.as_slice().len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes out what is at `place`. Returns who has moved there, if anybody has.
    pub(super) fn swap_remove(&mut self, place: u32) -> Option<Posting> {
        let place = place as usize;
        match self {
            Self::Many(subscribers) if place < subscribers.len() => {
                swap_remove(subscribers, place);
                if subscribers.len() == 1
                    && let Some(last) = subscribers.pop()
                {
                    *self = Self::One(last);
                }
            }
            Self::Many(_) => {}
            Self::One(_) => *self = Self::new(),
        }
        self.as_slice().get(place).map(|subscriber_ref| subscriber_ref.subscriber)
    }
}
