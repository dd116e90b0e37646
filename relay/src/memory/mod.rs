//! The account of the bytes that this process holds for its clients: rows that wait to be sent, filters, outboxes,
//! messages that have not arrived whole. A leaf.
//!
//! A connection may hold a share of what is free at the moment ([`ClientMemory::share_bytes`]), the dynamic threshold
//! that switches use for a buffer shared by many ports (Choudhury and Hahne, 1998): one greedy connection gets much,
//! many get little each, and whatever they do, something stays free for the next one. Whoever holds least gets first.
//!
//! Everything is counted by a [`Reservation`] and given back when that is dropped, so an aborted task or a panic
//! gives back too. docs/decisions/0014 has the measurements.

mod limit;
mod reservation;
#[cfg(test)]
mod tests;
mod waiting;

pub use limit::{MemoryLimit, automatic_clients_bytes, memory_limit};
pub use reservation::Reservation;

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use waiting::Waiter;

/// A connection may hold this fraction of what is free. At 8, a connection alone may hold a ninth of the account; nine
/// that take all they may leave half of it free.
const SHARE_OF_FREE: usize = 8;

/// Filters of a subscription that take no more are small: their number is bounded (limits.max_subscriptions).
const SMALL_FILTERS_BYTES: usize = 4 << 10;

/// What bytes are held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldFor {
    /// Rows that were read, or are being read, and the keys of those that are to be read.
    Rows,
    /// The filters of open subscriptions, with what the matcher keeps of them.
    Filters,
    /// Events that wait in outboxes and in socket buffers.
    Outbox,
    /// Messages that have not arrived whole, and events on their way to the store.
    Messages,
}

impl HeldFor {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Rows, Self::Filters, Self::Outbox, Self::Messages];
}

/// How full the account is, by what is to be turned away: each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Everybody is served.
    None,
    /// New connections are turned away.
    Connections,
    /// COUNTs too.
    Counts,
    /// REQs too that name no id, author or tag value.
    UnselectiveReqs,
    /// Every REQ; events never.
    Reqs,
}

/// The levels, in hundredths of the account.
const PRESSURE_PERCENT: [(usize, Pressure); 4] =
    [(98, Pressure::Reqs), (96, Pressure::UnselectiveReqs), (94, Pressure::Counts), (90, Pressure::Connections)];

/// The account of one process.
#[derive(Debug)]
pub struct ClientMemory {
    total_bytes: usize,
    held_bytes: AtomicUsize,
    held_for: [AtomicUsize; HeldFor::ALL.len()],
    /// The length of `waiters`, which most that give back need not lock.
    waiting: AtomicUsize,
    waiters: Mutex<VecDeque<Waiter>>,
}

impl ClientMemory {
    /// An account of `total_bytes`.
    pub fn new(total_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            total_bytes,
            held_bytes: AtomicUsize::new(0),
            held_for: Default::default(),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
        })
    }

    /// An account without a bound, for tests and tools.
    pub fn unbounded() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    /// A connection that holds nothing yet.
    pub fn connect(self: &Arc<Self>) -> Arc<ConnectionMemory> {
        let (held_bytes, filter_bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(ConnectionMemory { account: self.clone(), held_bytes, filter_bytes })
    }

    /// How many bytes the account has.
    pub fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// How many bytes are held. May exceed the account for a moment: what is bounded elsewhere is counted by force.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::SeqCst)
    }

    /// How many of them are held for one thing.
    pub fn held_for(&self, what: HeldFor) -> usize {
        self.held_for[what as usize].load(Ordering::Relaxed)
    }

    /// How many reads wait for memory.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// How many bytes one connection may hold as of now.
    pub fn share_bytes(&self) -> usize {
        self.total_bytes.saturating_sub(self.held_bytes()) / SHARE_OF_FREE
    }

    /// What is to be turned away as of now.
    pub fn pressure(&self) -> Pressure {
        let (held, hundredth) = (self.held_bytes(), self.total_bytes / 100);
        let level = PRESSURE_PERCENT.iter().find(|(percent, _)| held >= hundredth.saturating_mul(*percent));
        level.map_or(Pressure::None, |(_, pressure)| *pressure)
    }
}

/// The part of the account that one connection holds. Its queries, its subscriptions and its outbox share it.
#[derive(Debug)]
pub struct ConnectionMemory {
    account: Arc<ClientMemory>,
    held_bytes: AtomicUsize,
    /// Those of them that are held for filters.
    filter_bytes: AtomicUsize,
}

impl ConnectionMemory {
    /// The account that it is a part of.
    pub fn account(&self) -> &Arc<ClientMemory> {
        &self.account
    }

    /// How many bytes this connection holds.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::SeqCst)
    }

    /// How many bytes more of rows and outbox this connection may take as of now.
    pub fn room_bytes(&self) -> usize {
        self.room_for(HeldFor::Rows)
    }

    /// How many bytes more this connection may take for one thing as of now.
    fn room_for(&self, what: HeldFor) -> usize {
        let held = match what {
            HeldFor::Rows | HeldFor::Outbox => self.held_bytes(),
            // Rows come and go; a subscription is not refused because of those that are on their way.
            HeldFor::Filters => self.filter_bytes.load(Ordering::SeqCst),
            // Whoever holds all it may must still be able to speak: one message arrives at a time.
            HeldFor::Messages => 0,
        };
        self.account.share_bytes().saturating_sub(held)
    }

    /// True where this connection holds more than a connection may as of now: it took them when more was free, or they
    /// were counted by force.
    pub fn is_over_its_share(&self) -> bool {
        self.held_bytes() > self.account.share_bytes()
    }

    /// True where others need what this connection holds beyond its share.
    pub fn holds_what_others_need(&self) -> bool {
        self.account.held_bytes() > self.account.total_bytes / 4 * 3 && self.is_over_its_share()
    }

    /// Counts `bytes` whether there is room or not: for what is there already, or has a bound of its own.
    pub fn hold(self: &Arc<Self>, what: HeldFor, bytes: usize) -> Reservation {
        Reservation::count(self.clone(), what, bytes)
    }

    /// Counts `bytes`; `None` where this connection may not hold so many more.
    pub fn try_hold(self: &Arc<Self>, what: HeldFor, bytes: usize) -> Option<Reservation> {
        (self.room_for(what) >= bytes).then(|| self.hold(what, bytes))
    }

    /// Reserves the bytes of a subscription's filters; `None` where this connection may not hold them. It may hold a
    /// few small ones even where other connections have taken its share.
    pub fn try_hold_filters(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let is_small = bytes <= SMALL_FILTERS_BYTES && bytes <= self.account.share_bytes();
        (is_small || self.room_for(HeldFor::Filters) >= bytes).then(|| self.hold(HeldFor::Filters, bytes))
    }

    /// Waits until this connection may hold `least_bytes` more, then counts as many as it may, `most_bytes` at most.
    /// Waits for ever where that never comes: give it a deadline. Cancel safe.
    pub async fn wait_to_hold(self: &Arc<Self>, what: HeldFor, least_bytes: usize, most_bytes: usize) -> Reservation {
        match self.hold_at_once(what, least_bytes, most_bytes) {
            Some(reservation) => reservation,
            None => waiting::wait(self, what, least_bytes, most_bytes).await,
        }
    }

    /// The same without waiting; `None` where this connection may not hold `least_bytes` more.
    pub fn hold_at_once(self: &Arc<Self>, what: HeldFor, least_bytes: usize, most_bytes: usize) -> Option<Reservation> {
        let room = self.room_for(what);
        (room >= least_bytes).then(|| self.hold(what, room.min(most_bytes)))
    }
}
