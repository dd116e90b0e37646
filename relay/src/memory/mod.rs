//! The account of the bytes that this process holds for its clients: rows that wait to be sent, filters, outboxes,
//! incomplete messages. A leaf.
//!
//! A connection may hold a share of the bytes that are free at the moment ([`ClientMemory::share_bytes`]). This is the
//! dynamic threshold of switches, whose ports share a buffer (Choudhury and Hahne, 1998): one greedy connection gets
//! much, many get little each, and some bytes always stay free for the next one. Of the connections that wait, the one
//! that holds least is served first.
//!
//! A [`Reservation`] counts all bytes and returns them when it is dropped, so an aborted task or a panic returns them
//! too. docs/decisions/0014 has the measurements.

mod allocator;
mod limit;
mod reservation;
#[cfg(test)]
mod tests;
mod waiting;

pub use allocator::AllocatorBytes;
pub use limit::{MemoryLimit, automatic_clients_bytes, memory_limit};
pub use reservation::Reservation;

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use waiting::Waiter;

/// A connection may hold one part in this many of the free bytes. With 8, a single connection may hold a ninth of the
/// account, and nine connections that hold as much as they may leave about half of it free.
const SHARE_OF_FREE: usize = 8;

/// The most bytes of filters that count as small, which a connection may hold beyond its share: the number of its
/// subscriptions is bounded (limits.max_subscriptions).
const SMALL_FILTERS_BYTES: usize = 4 << 10;

/// The purposes for which bytes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldFor {
    /// Rows that were read or are being read, and the keys of rows whose texts will be read later.
    Rows,
    /// The filters of open subscriptions, with their copies in the matcher.
    Filters,
    /// Events that wait in outboxes and in socket buffers.
    Outbox,
    /// Incomplete messages, and events on their way to the store.
    Messages,
}

impl HeldFor {
    /// All purposes, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Rows, Self::Filters, Self::Outbox, Self::Messages];
}

/// How full the account is, as the work that is refused: each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing is refused.
    None,
    /// New connections are refused.
    Connections,
    /// COUNTs are refused, too.
    Counts,
    /// REQs that name no id, author or tag value are refused, too.
    UnselectiveReqs,
    /// Every REQ is refused. Events never are.
    Reqs,
}

/// The percentage of the account from which each level applies.
const PRESSURE_PERCENT: [(usize, Pressure); 4] =
    [(98, Pressure::Reqs), (96, Pressure::UnselectiveReqs), (94, Pressure::Counts), (90, Pressure::Connections)];

/// The account of one process.
#[derive(Debug)]
pub struct ClientMemory {
    total_bytes: usize,
    held_bytes: AtomicUsize,
    held_for: [AtomicUsize; HeldFor::ALL.len()],
    /// The length of `waiters`: where it is 0, a reservation that is dropped need not lock them.
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

    /// How many bytes are held. They may exceed the account for a moment: bytes with a bound of their own are counted
    /// in any case.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::SeqCst)
    }

    /// How many of them are held for one purpose.
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

    /// The present level, which says what must be refused.
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

    /// How many bytes more this connection may take for one purpose as of now.
    fn room_for(&self, what: HeldFor) -> usize {
        let held = match what {
            HeldFor::Rows | HeldFor::Outbox => self.held_bytes(),
            // Rows are held briefly: they must not keep a subscription from being opened.
            HeldFor::Filters => self.filter_bytes.load(Ordering::SeqCst),
            // A connection that holds its whole share must still be able to send, such as a CLOSE. Only one of its
            // messages arrives at a time.
            HeldFor::Messages => 0,
        };
        self.account.share_bytes().saturating_sub(held)
    }

    /// True where this connection holds more than its present share: more was free when it took the bytes, or they were
    /// counted in any case.
    pub fn is_over_its_share(&self) -> bool {
        self.held_bytes() > self.account.share_bytes()
    }

    /// True where the account is nearly full and this connection holds more than its share, so that others need it.
    pub fn holds_what_others_need(&self) -> bool {
        self.account.held_bytes() > self.account.total_bytes / 4 * 3 && self.is_over_its_share()
    }

    /// Counts `bytes` whether there is room or not: for bytes that are held already, or have a bound of their own.
    pub fn hold(self: &Arc<Self>, what: HeldFor, bytes: usize) -> Reservation {
        Reservation::count(self.clone(), what, bytes)
    }

    /// Counts `bytes`; `None` where this connection may not hold that many more.
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
    /// May wait without end: the caller must set a deadline. Cancel safe.
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
