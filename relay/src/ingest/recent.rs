//! The ephemeral events of the last minutes: what is in no store must not be delivered twice either.

use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Event, EventId, Timestamp};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use std::collections::VecDeque;

/// The most ids that are remembered: about 6 MB. Where more come within [`MAX_AGE_SECONDS`], the oldest are forgotten
/// before their time.
const MAX_IDS: usize = 65_536;

/// The longest time that an id is remembered. Longer than the relay accepts an event by default: 5 minutes after its
/// `created_at`, which may be 15 minutes ahead.
const MAX_AGE_SECONDS: u64 = 20 * 60;

/// The ids of ephemeral events that this instance has delivered, its own and those that came over the bus. Only an
/// event whose signature was checked is noted, so a forgery cannot keep the real one out.
pub(super) struct RecentEphemeral {
    ids: Mutex<Ids>,
    max_ids: usize,
}

#[derive(Default)]
struct Ids {
    known: FxHashSet<EventId>,
    /// In the order of arrival, each with the second from which it may be forgotten.
    queue: VecDeque<(Timestamp, EventId)>,
}

impl Default for RecentEphemeral {
    fn default() -> Self {
        Self { ids: Mutex::default(), max_ids: MAX_IDS }
    }
}

impl RecentEphemeral {
    /// True when the event was noted lately.
    pub(super) fn contains(&self, id: &EventId) -> bool {
        !ablated(Safeguard::RecentEphemeral) && self.ids.lock().known.contains(id)
    }

    /// Notes an event whose signature holds, as of `now`; false: it was noted before.
    pub(super) fn insert(&self, event: &Event, now: Timestamp) -> bool {
        let mut ids = self.ids.lock();
        if !ids.known.insert(event.id()) {
            return ablated(Safeguard::RecentEphemeral);
        }
        ids.queue.push_back((now.saturating_add_unsigned(MAX_AGE_SECONDS), event.id()));
        while let Some((until, id)) = ids.queue.front().copied()
            && (until <= now || ids.queue.len() > self.max_ids)
        {
            ids.queue.pop_front();
            ids.known.remove(&id);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Kind, PublicKey};

    fn event(content: &str) -> Event {
        Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(20_000), &[], content, |_| [0; 64])
    }

    #[test]
    fn an_id_is_remembered_for_its_time_and_within_the_bound() {
        let recent = RecentEphemeral { max_ids: 3, ..RecentEphemeral::default() };
        let [a, b, c, d] = ["a", "b", "c", "d"].map(event);
        assert!(recent.insert(&a, 100) && !recent.insert(&a, 101) && recent.contains(&a.id()));
        assert!(recent.insert(&b, 100 + 1_199));
        assert!(recent.contains(&a.id()), "its last second");
        assert!(recent.insert(&c, 100 + 1_200));
        assert!(!recent.contains(&a.id()) && recent.contains(&b.id()) && recent.contains(&c.id()));

        assert!(recent.insert(&a, 1_301) && recent.insert(&d, 1_301));
        assert!(!recent.contains(&b.id()), "one too many: the oldest goes");
        let ids = recent.ids.lock();
        assert_eq!((ids.known.len(), ids.queue.len()), (3, 3));
    }
}
