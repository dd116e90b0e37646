//! Delivery from the log to the outboxes: live pushes, and the replay for a subscription that starts, or that fell
//! behind.

use super::Log;
use crate::outbox::{Delivery, Item, Offered, Place, RingGeneration, Subscription};
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, Head, Insertion, LogEntry, Position, Refusal};
use std::sync::Arc;

/// How many changes one step of a replay reads before it releases the subscription's lock for a moment.
const REPLAY_CHANGES: usize = 1_024;

impl Log {
    /// Makes `subscription` live from right after `head`: replays what the ring has since, and pushes what comes, each
    /// event once. A subscription that was closed meanwhile stays closed. One whose snapshot includes what a failover
    /// has cut off since is closed with a reason.
    pub fn open(&self, subscription: &Arc<Subscription>, head: Head) {
        let Some(generation) = self.ring.read().generation_of(head.epoch) else {
            self.close(subscription, Refusal::LogCut);
            return;
        };
        {
            let mut delivery = subscription.delivery();
            if delivery.is_over() {
                return;
            }
            let from = if ablated(Safeguard::Replay) { self.head().position } else { head.position };
            *delivery = Delivery::Behind(Place::end_of(generation, from));
            subscription.begin(generation);
        }

        let registration = self.matcher.lock().insert(&subscription.filters, subscription.clone());
        if let Err(registration) = subscription.register(registration) {
            self.matcher.lock().remove(registration);
            return;
        }
        self.catch_up(subscription);
    }

    /// Ends `subscription` without a CLOSED.
    pub fn forget(&self, subscription: &Subscription) {
        if let Some(registration) = subscription.close() {
            self.matcher.lock().remove(registration);
        }
    }

    /// Ends `subscription` with a CLOSED, unless it is over already.
    pub fn close(&self, subscription: &Arc<Subscription>, why: Refusal) {
        if subscription.is_over() {
            return;
        }
        self.metrics.refusals.of(&why).increment(1);
        if let Some(registration) = subscription.end(why) {
            self.matcher.lock().remove(registration);
        }
    }

    /// Closes every open subscription: the log continues at a later position, and the entries before it are unknown.
    pub(super) fn close_all(&self) {
        let mut all = Vec::new();
        self.matcher.lock().for_each_target(|subscription| all.push(subscription.clone()));
        for subscription in all {
            self.close(&subscription, Refusal::LogCut);
        }
    }

    /// Replays what `subscription` has missed until it is live or its outbox is full again. Where the ring no longer
    /// reaches back, closes it with a reason. Call it whenever its outbox has drained.
    pub fn catch_up(&self, subscription: &Arc<Subscription>) {
        while self.replay_some(subscription) {}
    }

    /// One step of the replay. True while there may be more.
    fn replay_some(&self, subscription: &Arc<Subscription>) -> bool {
        // Locked for the whole step: an entry that the follower pushes after the ring was read, and before the
        // subscription is live, would be lost.
        let mut delivery = subscription.delivery();
        let Delivery::Behind(behind) = *delivery else { return false };

        let found = {
            let ring = self.ring.read();
            let place = match ring.place_now(behind) {
                // The subscription has had the entries that an earlier failover cut off, but not those of this one. To
                // track both it would need more than one generation, so a reader that was slow through two failovers
                // is closed.
                Some(place)
                    if place.generation != behind.generation && subscription.has_seen_before(behind.generation) =>
                {
                    None
                }
                place => place,
            };
            place.ok_or(Refusal::LogCut).and_then(|place| {
                let entries = ring.after(before_entry(place), REPLAY_CHANGES).ok_or(Refusal::TooSlow)?;
                Ok((place, entries))
            })
        };

        let (mut place, entries) = match found {
            Ok(found) => found,
            Err(why) => {
                drop(delivery);
                self.close(subscription, why);
                return false;
            }
        };

        if place.generation != behind.generation {
            // The subscription was behind the cut, so it has had none of the entries that were cut off.
            subscription.begin(place.generation);
        }

        if entries.is_empty() {
            *delivery = Delivery::Live(place);
            return false;
        }

        for entry in &entries {
            for (at, insertion) in insertions(entry, place.generation) {
                if at <= place || insertion.is_dead() || !wants(subscription, insertion) {
                    continue;
                }
                if self.cut_off(insertion).is_some_and(|generation| subscription.has_seen(generation)) {
                    continue;
                }
                let item = Item::Live { subscription: subscription.clone(), insertion: insertion.clone() };
                if subscription.outbox.try_push(item).is_err() {
                    *delivery = Delivery::Behind(place);
                    subscription.outbox.fell_behind(subscription);
                    return false;
                }
                place = at;
            }
            place = Place::end_of(place.generation, entry.position);
        }

        *delivery = Delivery::Behind(place);
        true
    }

    /// Pushes the insertions of a new entry to every live subscription that they concern.
    pub(super) fn deliver(&self, entry: &LogEntry, generation: RingGeneration) {
        let (mut pushed, mut fell_behind) = (0, 0);
        let mut ephemeral = entry.ephemeral.iter().peekable();
        for (place, insertion) in insertions(entry, generation) {
            while let Some(earlier) = ephemeral.next_if(|earlier| earlier.before <= place.index as usize) {
                self.broadcast(earlier.event.clone());
            }
            if !insertion.is_dead() {
                let cut_off = self.cut_off(insertion);
                // Locked for each event, so that a large entry does not keep new subscriptions waiting.
                let mut matcher = self.matcher.lock();
                matcher.for_each_match(&insertion.event, |subscription| {
                    match subscription.offer(place, insertion, cut_off) {
                        Offered::Pushed => pushed += 1,
                        Offered::FellBehind => fell_behind += 1,
                        Offered::NotNow => {}
                    }
                });
            }
        }

        for later in ephemeral {
            self.broadcast(later.event.clone());
        }
        self.metrics.deliveries.increment(pushed);
        self.metrics.slow_clients.increment(fell_behind);
    }

    /// The generation that delivered this event before a failover cut it off; `None` where that has not happened.
    fn cut_off(&self, insertion: &Insertion) -> Option<RingGeneration> {
        let cut_off = self.cut_off.read();
        if cut_off.is_empty() || ablated(Safeguard::SeenBefore) {
            None
        } else {
            cut_off.get(&insertion.event.id()).copied()
        }
    }
}

/// The position to read the ring from. The entry at `place` may be half delivered, and is read again unless `place` is
/// its end.
fn before_entry(place: Place) -> Position {
    if place == Place::end_of(place.generation, place.position) {
        place.position
    } else {
        Position(place.position.0 - 1)
    }
}

fn insertions(entry: &LogEntry, generation: RingGeneration) -> impl Iterator<Item = (Place, &Arc<Insertion>)> {
    entry.changes.iter().zip(0..).filter_map(move |(change, index)| match change {
        Change::Inserted(insertion) => Some((Place { generation, position: entry.position, index }, insertion)),
        Change::Removed(_) => None,
    })
}

fn wants(subscription: &Subscription, insertion: &Insertion) -> bool {
    subscription.filters.iter().any(|filter| filter.matches(&insertion.event))
}
