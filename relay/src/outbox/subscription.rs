//! One open REQ, and the place in the log up to which its events were delivered.

use super::items::Item;
use super::queue::Outbox;
use crate::memory::Reservation;
use crate::types::{Filter, Insertion, Position, Refusal, Registration, SubscriptionId};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A place inside the log: an entry, and one of its changes. Everything up to the place was delivered, everything after
/// it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The generation of the ring that the position belongs to. A failover that cuts entries off makes positions begin
    /// again at the base, so the generation is compared first: a later one is after every place of an earlier one.
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

/// How often the ring of this instance has begun again: once for each change of epoch that it has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RingGeneration(pub u32);

/// How live events reach a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Stored events are still being read or sent. The ring will be replayed from H, which the query determines.
    Held,
    /// Everything up to the place is in the outbox; the follower pushes what comes after.
    Live(Place),
    /// The outbox was full: everything up to the place was pushed, and the rest will be replayed from the ring.
    Behind(Place),
    /// The relay has ended the subscription; its CLOSED is not sent yet.
    Ended,
    /// The client closed or replaced the subscription, or went away; or the CLOSED of [`Ended`](Self::Ended) is sent.
    Closed,
}

impl Delivery {
    /// True where nothing may be sent any more, except the CLOSED of [`Ended`](Self::Ended).
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
    /// The subscription is not live, or has had the event before.
    NotNow,
}

/// One open REQ of one connection.
pub struct Subscription {
    /// The id that the client chose.
    pub id: SubscriptionId,
    /// What the client asks for; an event matches when any filter does.
    pub filters: Arc<[Filter]>,
    /// The bytes that its filters take here and in the matcher: see [`Filter::held_bytes`].
    pub held_bytes: usize,
    /// Where its events go.
    pub outbox: Arc<Outbox>,
    delivery: Mutex<Delivery>,
    registration: Mutex<Option<Registration>>,
    /// The generation in which the subscription began, or the first of which it has missed nothing. Written under the
    /// delivery's lock.
    since: AtomicU32,
    /// Reserves the bytes of the filters for as long as the subscription is alive.
    _memory: Option<Reservation>,
}

impl Subscription {
    /// A subscription that gets no live events until its query has determined H.
    pub fn new(id: SubscriptionId, filters: Arc<[Filter]>, outbox: Arc<Outbox>) -> Arc<Self> {
        Self::build(id, filters, outbox, None)
    }

    /// Like [`new`](Self::new), with a reservation for the bytes of the filters.
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

    /// Locks the delivery state. The only lock of the log that may be taken while it is held is the ring's read lock.
    pub fn delivery(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock()
    }

    /// Notes that the subscription begins in `generation`: events of earlier generations which a failover cut off were
    /// never sent to it. To be called with the delivery locked.
    pub fn begin(&self, generation: RingGeneration) {
        self.since.store(generation.0, Ordering::Relaxed);
    }

    /// True for a subscription that was open in `generation`: it was sent every matching event that a failover then cut
    /// off, and must not be sent such an event again when it is submitted again.
    pub fn has_seen(&self, generation: RingGeneration) -> bool {
        self.since.load(Ordering::Relaxed) <= generation.0
    }

    /// True for a subscription that was open in a generation before `generation`.
    pub fn has_seen_before(&self, generation: RingGeneration) -> bool {
        self.since.load(Ordering::Relaxed) < generation.0
    }

    /// Stores where the matcher has filed the subscription. Returns the registration when the subscription was closed
    /// meanwhile: then the caller must take it out of the matcher again.
    pub fn register(&self, registration: Registration) -> Result<(), Registration> {
        // Held to the end: `close` must see the registration or be seen here.
        let delivery = self.delivery.lock();
        if delivery.is_over() {
            return Err(registration);
        }
        *self.registration.lock() = Some(registration);
        Ok(())
    }

    /// Ends the subscription on the client's behalf: nothing that is queued for it will be sent. Returns where the
    /// matcher has filed the subscription; only the first call does.
    pub fn close(&self) -> Option<Registration> {
        *self.delivery.lock() = Delivery::Closed;
        self.registration.lock().take()
    }

    /// Ends the subscription on the relay's behalf, and queues the CLOSED that says `why`. Queues nothing where the
    /// subscription is over: the client may have given its id to another subscription since, and would take the CLOSED
    /// for that one. Returns what [`close`](Self::close) returns.
    pub fn end(self: &Arc<Self>, why: Refusal) -> Option<Registration> {
        let mut delivery = self.delivery.lock();
        if !delivery.is_over() {
            *delivery = Delivery::Ended;
            self.outbox.ended(self, why);
        }
        drop(delivery);
        self.registration.lock().take()
    }

    /// To be called right before the CLOSED of [`end`](Self::end) is sent. False: it must not be sent any more.
    pub fn settle_end(&self) -> bool {
        std::mem::replace(&mut *self.delivery.lock(), Delivery::Closed) == Delivery::Ended
    }

    /// True once [`close`](Self::close) or [`end`](Self::end) was called.
    pub fn is_over(&self) -> bool {
        self.delivery.lock().is_over()
    }

    /// True where nothing may be sent any more, not even a CLOSED.
    pub fn is_closed(&self) -> bool {
        *self.delivery.lock() == Delivery::Closed
    }

    /// Offers a live event that matches. Pushes it if the subscription is live and has not had it; falls behind if the
    /// outbox is full. `cut_off` names the generation that had delivered the event before a failover cut it off. Never
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
                // The place moves on although nothing is pushed: else a later replay would begin before it.
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

    /// Offers an ephemeral event: pushed if the subscription is live and there is room, else dropped (ephemeral events
    /// are delivered at most once). True: it was pushed.
    pub fn offer_ephemeral(self: &Arc<Self>, insertion: &Arc<Insertion>) -> bool {
        let delivery = self.delivery.lock();
        let item = || Item::Live { subscription: self.clone(), insertion: insertion.clone() };
        matches!(*delivery, Delivery::Live(_)) && self.outbox.try_push(item()).is_ok()
    }
}
