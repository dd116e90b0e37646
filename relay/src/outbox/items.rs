//! What waits in an outbox, and the memory that it takes.

use super::queue::OutboxLimits;
use super::subscription::Subscription;
use crate::memory::{ConnectionMemory, HeldFor, Reservation};
use crate::types::{EoseHints, Insertion, Refusal, Reply, Row};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// An outbox holds this many bytes without asking the account of memory: so a quiet client's deliveries touch nothing
/// that connections share, and whoever drains an outbox always makes room, however full the account is.
const UNCOUNTED_BYTES: usize = 16 << 10;

/// The account is asked for this many bytes at a time.
const COUNTED_STEP_BYTES: usize = 64 << 10;

/// One thing to send.
pub enum Item {
    /// An answer.
    Reply(Reply),
    /// Everything that was stored has been queued before this. Not sent once the client has closed or replaced the
    /// subscription: the new one of the same id would take it for its own.
    Eose(Arc<Subscription>, EoseHints),
    /// The relay has ended the subscription, and why. Not sent either once the client has closed or replaced it.
    Ended(Arc<Subscription>, Refusal),
    /// An event that was read from the store.
    Stored {
        /// Whose it is.
        subscription: Arc<Subscription>,
        /// What to send.
        row: Row,
    },
    /// An event that the log brought. Death, expiry and access are checked at the moment of sending.
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
    /// What the account of memory counts beyond [`UNCOUNTED_BYTES`].
    pub(super) counted: Option<Reservation>,
    /// How often items were taken: where it stands still, the client takes nothing.
    pub(super) takes: u64,
    pub(super) behind: Vec<Arc<Subscription>>,
    /// How many queries have rows for which there was no room.
    pub(super) waiting: usize,
    /// The last room that was made went to those that fell behind: the next is for rows, where any wait.
    pub(super) rows_next: bool,
    pub(super) closed: bool,
    /// Something has happened since the connection last asked.
    pub(super) notified: bool,
    /// The connection, asleep until something happens.
    pub(super) waker: Option<Waker>,
}

impl Queue {
    /// What the events take in memory.
    fn held_bytes(&self) -> usize {
        self.bytes + self.events * size_of::<Item>()
    }

    /// Up to this many bytes may be held without asking the account anew.
    fn covered_bytes(&self) -> usize {
        UNCOUNTED_BYTES + self.counted.as_ref().map_or(0, Reservation::bytes)
    }

    /// True where there is room as far as the limits of this outbox go, whatever the account says.
    pub(super) fn is_within(&self, limits: OutboxLimits) -> bool {
        self.events < limits.max_events && self.bytes < limits.max_bytes
    }

    /// True where an event is likely to find room; only [`make_room`](Self::make_room) is sure.
    pub(super) fn may_have_room(&self, limits: OutboxLimits, memory: &ConnectionMemory) -> bool {
        let covered = || self.held_bytes() < self.covered_bytes();
        self.is_within(limits) && (covered() || memory.room_bytes() >= COUNTED_STEP_BYTES)
    }

    /// True where there is room for one event more; asks the account where it must.
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

    /// Gives back what is no longer needed; a little is kept, so that a busy client does not keep asking.
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

    /// How many bytes of rows to fetch for the room there is; `None` where that is less than half of the outbox.
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
                // One event is taken as long as there was any room: now it is there, and counts.
                let needed = (self.held_bytes() - UNCOUNTED_BYTES).next_multiple_of(COUNTED_STEP_BYTES);
                self.counted.get_or_insert_with(|| memory.hold(HeldFor::Outbox, 0)).resize(needed);
            }
        }
        self.items.push_back(item);
    }
}
