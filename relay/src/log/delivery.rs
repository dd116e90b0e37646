//! From the log to the outboxes: live pushes, and the replay for whoever starts late or fell behind.

use super::Log;
use crate::outbox::{Delivery, Item, Offered, Place, Subscription};
use crate::types::{Change, Insertion, LogEntry, Position, Refusal, Reply};
use std::sync::Arc;

/// How many changes a replay looks at before it lets go of the subscription for a moment.
const REPLAY_CHANGES: usize = 1_024;

impl Log {
    /// Makes `subscription` live from right after `position`: what has happened since is replayed from the ring, what
    /// comes is pushed, each once. A subscription that was closed meanwhile stays closed.
    pub fn open(&self, subscription: &Arc<Subscription>, position: Position) {
        {
            let mut delivery = subscription.delivery();
            if *delivery == Delivery::Closed {
                return;
            }
            *delivery = Delivery::Behind(Place::end_of(position));
        }
        let registration = self.matcher.lock().insert(&subscription.filters, subscription.clone());
        if let Err(registration) = subscription.register(registration) {
            self.matcher.lock().remove(registration);
            return;
        }
        self.catch_up(subscription);
    }

    /// Ends `subscription`: nothing more is pushed or sent for it.
    pub fn forget(&self, subscription: &Subscription) {
        if let Some(registration) = subscription.close() {
            self.matcher.lock().remove(registration);
        }
    }

    /// Replays from the ring what `subscription` has missed, until it is live, its outbox is full again, or the ring
    /// no longer reaches back: then it is closed with a reason. To be called whenever its outbox has drained.
    pub fn catch_up(&self, subscription: &Arc<Subscription>) {
        while let Some(after) = self.replay_some(subscription) {
            debug_assert!(after.position <= self.head().position, "a replay never passes the head");
        }
    }

    /// One stretch of the replay. Returns the place that it came to while there may be more to do.
    fn replay_some(&self, subscription: &Arc<Subscription>) -> Option<Place> {
        // Held for the whole stretch: while we decide that nothing is left, the follower must not push.
        let mut delivery = subscription.delivery();
        let Delivery::Behind(mut place) = *delivery else { return None };
        // The entry at `place` may be half delivered, so start with it unless it was finished.
        let from = if place == Place::end_of(place.position) { place.position } else { Position(place.position.0 - 1) };
        let Some(entries) = self.ring.read().after(from, REPLAY_CHANGES) else {
            drop(delivery);
            self.forget(subscription);
            subscription.outbox.reply(Reply::Closed(subscription.id.clone(), Refusal::TooSlow));
            return None;
        };
        if entries.is_empty() {
            *delivery = Delivery::Live(place);
            return None;
        }
        for entry in &entries {
            for (at, insertion) in insertions(entry) {
                if at <= place || insertion.is_dead() || !wants(subscription, insertion) {
                    continue;
                }
                let item = Item::Live { subscription: subscription.clone(), insertion: insertion.clone() };
                if subscription.outbox.try_push(item).is_err() {
                    *delivery = Delivery::Behind(place);
                    subscription.outbox.fell_behind(subscription);
                    return None;
                }
                place = at;
            }
            place = Place::end_of(entry.position);
        }
        *delivery = Delivery::Behind(place);
        Some(place)
    }

    /// Pushes one new entry to every live subscription that it concerns.
    pub(super) fn deliver(&self, entry: &LogEntry) {
        let (mut pushed, mut fell_behind) = (0, 0);
        for (place, insertion) in insertions(entry) {
            if !insertion.is_dead() {
                // Locked for each event anew, so that a large batch does not keep new subscriptions waiting.
                let mut matcher = self.matcher.lock();
                matcher.for_each_match(&insertion.event, |subscription| match subscription.offer(place, insertion) {
                    Offered::Pushed => pushed += 1,
                    Offered::FellBehind => fell_behind += 1,
                    Offered::NotNow => {}
                });
            }
        }
        self.metrics.deliveries.increment(pushed);
        self.metrics.slow_clients.increment(fell_behind);
    }
}

fn insertions(entry: &LogEntry) -> impl Iterator<Item = (Place, &Arc<Insertion>)> {
    entry.changes.iter().zip(0..).filter_map(|(change, index)| match change {
        Change::Inserted(insertion) => Some((Place { position: entry.position, index }, insertion)),
        Change::Removed(_) => None,
    })
}

fn wants(subscription: &Subscription, insertion: &Insertion) -> bool {
    subscription.filters.iter().any(|filter| filter.matches(&insertion.event))
}
