//! One open REQ, and where its delivery stands in the log.

use super::items::Item;
use super::queue::Outbox;
use crate::memory::Reservation;
use crate::types::{Filter, Insertion, Position, Refusal, Registration, SubscriptionId};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A place inside the log: an entry and how many of its changes lie before this place. Everything up to it was
/// delivered, everything after it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which generation of the ring the position counts in. Positions start anew where a failover has cut entries off; so
    /// whatever comes in a later generation lies after every place of an earlier one.
    pub generation: RingGeneration,
    /// The entry.
    pub position: Position,
    /// The change inside it, counted from 0.
    pub index: u32,
}

impl Place {
    /// The place after the last change of the entry at `position`.
    pub const fn end_of(generation: RingGeneration, position: Position) -> Self {
        Self { generation, position, index: u32::MAX }
    }

    /// The place right before this change.
    pub const fn before(self) -> Self {
        match self.index.checked_sub(1) {
            Some(index) => Self { index, ..self },
            None => Self::end_of(self.generation, Position(self.position.0.saturating_sub(1))),
        }
    }
}

/// How often the ring of this instance has begun anew: once for each change of epoch that it has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RingGeneration(pub u32);

/// How live events reach a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Stored events are still being read or sent; the log will be replayed from the place that the query settles.
    Held,
    /// Everything up to the place is in the outbox; the log pushes what comes after.
    Live(Place),
    /// The outbox was full: everything up to the place was pushed, the rest is to be replayed from the ring.
    Behind(Place),
    /// The relay has ended it; the client has not been told yet.
    Ended,
    /// The client closed it, replaced it, went away, or knows that the relay has ended it.
    Closed,
}

impl Delivery {
    /// Nothing is to be sent any more, but for the CLOSED that is owed.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Closed)
    }
}

/// What became of an offered event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It is in the outbox.
    Pushed,
    /// The outbox was full: from here on the ring is replayed.
    FellBehind,
    /// The subscription is not live here, or had it before.
    NotNow,
}

/// One open REQ of one connection.
pub struct Subscription {
    /// The id that the client chose.
    pub id: SubscriptionId,
    /// What it asks for; an event matches when any of them does.
    pub filters: Arc<[Filter]>,
    /// What its filters hold here and in the matcher: see [`Filter::held_bytes`].
    pub held_bytes: usize,
    /// Where its events go.
    pub outbox: Arc<Outbox>,
    delivery: Mutex<Delivery>,
    registration: Mutex<Option<Registration>>,
    /// The generation in which it began, or the first of which it has missed nothing. Written under the delivery's lock.
    since: AtomicU32,
    /// Counts its filters as long as anybody holds them.
    _memory: Option<Reservation>,
}

impl Subscription {
    /// A subscription whose live events are held back until the query has settled where they begin.
    pub fn new(id: SubscriptionId, filters: Arc<[Filter]>, outbox: Arc<Outbox>) -> Arc<Self> {
        Self::build(id, filters, outbox, None)
    }

    /// The same, whose filters `memory` counts.
    pub fn with_memory(
        id: SubscriptionId,
        filters: Arc<[Filter]>,
        outbox: Arc<Outbox>,
        memory: Reservation,
    ) -> Arc<Self> {
        Self::build(id, filters, outbox, Some(memory))
    }

    fn build(
        id: SubscriptionId,
        filters: Arc<[Filter]>,
        outbox: Arc<Outbox>,
        _memory: Option<Reservation>,
    ) -> Arc<Self> {
        let (delivery, registration) = (Mutex::new(Delivery::Held), Mutex::new(None));
        let held_bytes = filters.iter().map(Filter::held_bytes).sum();
        let since = AtomicU32::new(0);
        Arc::new(Self { id, filters, held_bytes, outbox, delivery, registration, since, _memory })
    }

    /// Locks the delivery state. Take no lock of the log while holding it but the ring's read lock.
    pub fn delivery(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock()
    }

    /// Notes that whatever generations before `generation` brought and a failover cut off was never sent to it. To be called with
    /// the delivery locked.
    pub fn begin(&self, generation: RingGeneration) {
        self.since.store(generation.0, Ordering::Relaxed);
    }

    /// True for a subscription that was sent, in `generation`, whatever it wanted of what a failover then cut off: when that
    /// comes again, it is no news.
    pub fn has_seen(&self, generation: RingGeneration) -> bool {
        self.since.load(Ordering::Relaxed) <= generation.0
    }

    /// True for a subscription that was there in a generation before `generation`.
    pub fn has_seen_before(&self, generation: RingGeneration) -> bool {
        self.since.load(Ordering::Relaxed) < generation.0
    }

    /// Notes where the matcher has filed the subscription; gives it back when the subscription was closed meanwhile:
    /// then the caller takes it out again.
    pub fn register(&self, registration: Registration) -> Result<(), Registration> {
        let delivery = self.delivery.lock();
        if delivery.is_over() {
            return Err(registration);
        }
        *self.registration.lock() = Some(registration);
        Ok(())
    }

    /// Ends the subscription for the client: nothing queued for it will be sent any more. Returns where the matcher has
    /// filed it, once.
    pub fn close(&self) -> Option<Registration> {
        *self.delivery.lock() = Delivery::Closed;
        self.registration.lock().take()
    }

    /// Ends the subscription for the relay, and queues the CLOSED that says why. Where it is over already, nothing is
    /// queued: the client would take the CLOSED for that of another subscription to which it has given the id since.
    /// Returns as [`close`](Self::close) does.
    pub fn end(self: &Arc<Self>, why: Refusal) -> Option<Registration> {
        let mut delivery = self.delivery.lock();
        if !delivery.is_over() {
            *delivery = Delivery::Ended;
            self.outbox.ended(self, why);
        }
        drop(delivery);
        self.registration.lock().take()
    }

    /// To be called when the CLOSED that [`end`](Self::end) has queued is to be sent. False: it is owed no more.
    pub fn settle_end(&self) -> bool {
        std::mem::replace(&mut *self.delivery.lock(), Delivery::Closed) == Delivery::Ended
    }

    /// True once [`close`](Self::close) or [`end`](Self::end) was called.
    pub fn is_over(&self) -> bool {
        self.delivery.lock().is_over()
    }

    /// True where nothing is to be sent any more, not even a CLOSED.
    pub fn is_closed(&self) -> bool {
        *self.delivery.lock() == Delivery::Closed
    }

    /// Offers a live match. Pushes it if the subscription is live and has not had it; falls behind if the outbox is
    /// full. `cut_off` says that the event is one that a failover has cut off after that generation had delivered it. Never
    /// waits.
    pub fn offer(
        self: &Arc<Self>,
        place: Place,
        insertion: &Arc<Insertion>,
        cut_off: Option<RingGeneration>,
    ) -> Offered {
        let mut delivery = self.delivery.lock();
        if let Delivery::Live(delivered) = *delivery
            && place > delivered
        {
            if cut_off.is_some_and(|generation| self.has_seen(generation)) {
                *delivery = Delivery::Live(place);
                return Offered::NotNow;
            }
            let item = Item::Live { subscription: self.clone(), insertion: insertion.clone() };
            if self.outbox.try_push(item).is_ok() {
                *delivery = Delivery::Live(place);
                return Offered::Pushed;
            }
            *delivery = Delivery::Behind(place.before());
            self.outbox.fell_behind(self);
            return Offered::FellBehind;
        }
        Offered::NotNow
    }

    /// Offers an ephemeral event: delivered if the subscription is live and there is room, else dropped (at most
    /// once, as documented). Says whether it was delivered.
    pub fn offer_ephemeral(self: &Arc<Self>, insertion: &Arc<Insertion>) -> bool {
        let delivery = self.delivery.lock();
        let item = || Item::Live { subscription: self.clone(), insertion: insertion.clone() };
        matches!(*delivery, Delivery::Live(_)) && self.outbox.try_push(item()).is_ok()
    }
}
