//! What waits in an outbox, and the memory that it takes.

use super::queue::OutboxLimits;
use super::subscription::Subscription;
use crate::memory::{ConnectionMemory, HeldFor, Reservation};
use crate::types::{EoseHints, Insertion, Refusal, Reply, Row};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// An outbox holds this many bytes without asking the account of memory. So the deliveries of a quiet client touch
/// nothing that connections share, and draining an outbox always makes room, however full the account is.
const UNCOUNTED_BYTES: usize = 16 << 10;

/// The step in which an outbox asks the account for bytes: large, so that a busy outbox rarely asks.
const COUNTED_STEP_BYTES: usize = 64 << 10;

/// One thing to send.
pub enum Item {
    /// An answer.
    Reply(Reply),
    /// Ends the stored events: all of them are queued before it. Not sent once the client has closed or replaced the
    /// subscription: the client would take it for the EOSE of the new subscription with the same id.
    Eose(Arc<Subscription>, EoseHints),
    /// The CLOSED of a subscription that the relay has ended, with the reason. Not sent either once the client has
    /// closed or replaced the subscription.
    Ended(Arc<Subscription>, Refusal),
    /// An event that was read from the store.
    Stored {
        /// Whose it is.
        subscription: Arc<Subscription>,
        /// What to send.
        row: Row,
    },
    /// A live event. Removal, expiry and access are checked at the moment of sending, since the event may have waited.
    Live {
        /// Whose it is.
        subscription: Arc<Subscription>,
        /// What to send.
        insertion: Arc<Insertion>,
    },
}

impl Item {
    pub(super) fn event_bytes(&self) -> Option<usize> {
        match self {
            Self::Reply(_) | Self::Eose(..) | Self::Ended(..) => None,
            Self::Stored { row, .. } => Some(row.text.len()),
            Self::Live { insertion, .. } => Some(insertion.event.text().len()),
        }
    }
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) items: VecDeque<Item>,
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// Bytes beyond [`UNCOUNTED_BYTES`], as reserved at the account of memory.
    pub(super) counted: Option<Reservation>,
    /// How often items were taken: while the number stays the same, the client takes nothing.
    pub(super) takes: u64,
    pub(super) behind: Vec<Arc<Subscription>>,
    /// How many queries wait with rows that found no room.
    pub(super) waiting: usize,
    /// True after a replay: the next free room goes to rows, where any wait.
    pub(super) rows_next: bool,
    pub(super) closed: bool,
    /// True where something has happened since the connection last looked.
    pub(super) notified: bool,
    /// Wakes the connection's task.
    pub(super) waker: Option<Waker>,
}

impl Queue {
    /// The bytes that the queued events take in memory.
    fn held_bytes(&self) -> usize {
        self.bytes + self.events * size_of::<Item>()
    }

    /// How many bytes the queue may hold before it asks the account again.
    fn covered_bytes(&self) -> usize {
        UNCOUNTED_BYTES + self.counted.as_ref().map_or(0, Reservation::bytes)
    }

    /// True where the limits of this outbox leave room; says nothing of the account.
    pub(super) fn is_within(&self, limits: OutboxLimits) -> bool {
        self.events < limits.max_events && self.bytes < limits.max_bytes
    }

    /// True where an event is likely to find room; only [`make_room`](Self::make_room) is sure.
    pub(super) fn may_have_room(&self, limits: OutboxLimits, memory: &ConnectionMemory) -> bool {
        let covered = || self.held_bytes() < self.covered_bytes();
        self.is_within(limits) && (covered() || memory.room_bytes() >= COUNTED_STEP_BYTES)
    }

    /// True where there is room for one event more. Reserves another step at the account where the queue needs it.
    pub(super) fn make_room(&mut self, limits: OutboxLimits, memory: &Arc<ConnectionMemory>) -> bool {
        if !self.is_within(limits) {
            return false;
        }
        if self.held_bytes() < self.covered_bytes() {
            return true;
        }
        match &mut self.counted {
            Some(counted) => counted.try_grow(COUNTED_STEP_BYTES),
            None => {
                self.counted = memory.try_hold(HeldFor::Outbox, COUNTED_STEP_BYTES);
                self.counted.is_some()
            }
        }
    }

    /// Returns bytes to the account. Keeps up to one spare step, so that a busy client does not ask again at once.
    pub(super) fn give_back(&mut self) {
        let held = self.held_bytes();
        let Some(counted) = &mut self.counted else { return };
        if self.items.is_empty() {
            self.counted = None;
        } else {
            let needed = held.saturating_sub(UNCOUNTED_BYTES).next_multiple_of(COUNTED_STEP_BYTES);
            if counted.bytes() > needed + COUNTED_STEP_BYTES {
                counted.resize(needed);
            }
        }
    }

    /// How many bytes of rows to fetch for the free room; `None` where less than half of the outbox is free. A fetch
    /// for less would make many small reads of the store.
    pub(super) fn room_for_rows(&self, limits: OutboxLimits, memory: &ConnectionMemory) -> Option<usize> {
        let max_bytes = match memory.room_bytes() >= COUNTED_STEP_BYTES {
            true => limits.max_bytes,
            false => limits.max_bytes.min(self.covered_bytes()),
        };
        let is_half_free = self.events <= limits.max_events / 2 && self.bytes <= max_bytes / 2;
        is_half_free.then(|| (max_bytes - self.bytes).max(1))
    }

    pub(super) fn owes_replay(&self, limits: OutboxLimits, memory: &ConnectionMemory) -> bool {
        !self.behind.is_empty() && self.may_have_room(limits, memory) && !(self.rows_next && self.waiting > 0)
    }

    pub(super) fn push(&mut self, item: Item, memory: &Arc<ConnectionMemory>) {
        if let Some(bytes) = item.event_bytes() {
            self.events += 1;
            self.bytes += bytes;
            if self.held_bytes() > self.covered_bytes() {
                // `make_room` promises room for one event of any size, so the account must take this one without a
                // question.
                let needed = (self.held_bytes() - UNCOUNTED_BYTES).next_multiple_of(COUNTED_STEP_BYTES);
                self.counted.get_or_insert_with(|| memory.hold(HeldFor::Outbox, 0)).resize(needed);
            }
        }
        self.items.push_back(item);
    }
}
