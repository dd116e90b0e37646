//! What a thread knows of one of its connections.

use crate::client::encode_text;
use std::cell::{Cell, RefCell};
use tokio::sync::Notify;

/// Bytes that may wait for a connection to take them; past that it gets nothing more.
pub(super) const MAX_BACKLOG: usize = 256 * 1024;

/// A question under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) class: u8,
    /// When it should have been asked.
    pub(super) intended: u64,
}

/// What a thread knows of one of its connections.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Among the thread's.
    pub(super) index: u32,
    /// Among all.
    pub(super) global: usize,
    /// Which URL it connects to.
    pub(super) url: u16,
    pub(super) subscribes: bool,
    pub(super) never_reads: bool,
    /// Open, and nothing stops it from sending.
    pub(super) open: Cell<bool>,
    /// Open, and all its subscriptions have had their EOSE.
    pub(super) live: Cell<bool>,
    /// It is not waited for at the start.
    pub(super) gave_up: Cell<bool>,
    pub(super) in_flight: Cell<usize>,
    /// When it was told to connect again; 0 when it was not.
    pub(super) ordered: Cell<u64>,
    /// Frames for the socket.
    pub(super) outbox: RefCell<Vec<u8>>,
    /// Bytes that the kernel has yet to take.
    pub(super) backlog: Cell<usize>,
    pub(super) asked: RefCell<Vec<Asked>>,
    /// Something is in the outbox, or it was told to connect again.
    pub(super) wake: Notify,
    pub(super) slots_live: Cell<u32>,
    /// Subscriptions that the relay closed, a bit each.
    pub(super) closed: Cell<u32>,
}

impl Peer {
    /// Queues a message and wakes the connection.
    pub(super) fn send(&self, parts: &[&[u8]]) {
        encode_text(parts, &mut self.outbox.borrow_mut());
        self.wake.notify_one();
    }

    /// True when it may be given something to send.
    pub(super) fn has_room(&self) -> bool {
        self.open.get() && self.outbox.borrow().len() + self.backlog.get() < MAX_BACKLOG
    }
}
