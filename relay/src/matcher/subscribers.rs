//! Postings, and the list of a filter's subscribers.

/// An element of a posting list: a filter in the list of a value, or a subscriber in the list of a filter. The element
/// names its owner, and the owner keeps the element's place in the list, at index `ordinal` of the owner's places. So
/// removing an element from a list of 100,000 takes no search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posting {
    pub(super) owner: u32,
    /// The index in the owner's places.
    pub(super) ordinal: u32,
}

/// Removes the element at `place`; the last element moves there. Shrinks a list that has become much shorter.
pub(super) fn swap_remove<V>(list: &mut Vec<V>, place: usize) {
    list.swap_remove(place);
    if list.capacity() > 8 && list.len() < list.capacity() / 4 {
        list.shrink_to(list.len() * 2);
    }
}

/// A subscriber of a filter.
pub(super) struct SubscriberRef<T> {
    pub(super) subscriber: Posting,
    /// The target, where the subscriber has no other filter: then a match calls it without reading the subscriber.
    pub(super) direct: Option<T>,
}

/// The subscribers of one filter, in no order. Usually there is one, and the filter holds it directly: that
/// takes no further allocation, and no cache miss for an event.
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

    /// Adds a subscriber; returns its place.
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
        // Memory runs out long before a filter has 2^32 subscribers.
        u32::try_from(self.as_slice().len() - 1).unwrap_or(u32::MAX)
    }

    /// Removes the subscriber at `place`. Returns the one that has moved there, if one has.
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
