//! The state of one connection.

use crate::client::encode_text;
use std::cell::{Cell, RefCell};
use tokio::sync::Notify;

/// How many bytes may wait for the socket; a connection with more gets nothing to send.
pub(super) const MAX_BACKLOG: usize = 256 * 1024;

/// A question under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) class: u8,
    /// When it was due.
    pub(super) intended: u64,
}

/// The state of one connection, as its thread sees it.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Its index among the thread's connections.
    pub(super) index: u32,
    /// Its index among all connections.
    pub(super) global: usize,
    /// The index of the URL that it connects to.
    pub(super) url: u16,
    pub(super) subscribes: bool,
    pub(super) never_reads: bool,
    /// True while it is connected and may send.
    pub(super) open: Cell<bool>,
    /// True while it is connected and all its subscriptions have had their EOSE.
    pub(super) live: Cell<bool>,
    /// True where the start of the run does not wait for it, since it failed too often.
    pub(super) gave_up: Cell<bool>,
    pub(super) in_flight: Cell<usize>,
    /// When it was ordered to reconnect; 0: it was not.
    pub(super) ordered: Cell<u64>,
    /// Frames for the socket.
    pub(super) outbox: RefCell<Vec<u8>>,
    /// Bytes that the kernel has not taken yet.
    pub(super) backlog: Cell<usize>,
    pub(super) asked: RefCell<Vec<Asked>>,
    /// Wakes its task: there is something in the outbox, or an order to reconnect.
    pub(super) wake: Notify,
    pub(super) slots_live: Cell<u32>,
    /// The subscriptions that the relay has closed, one bit each.
    pub(super) closed: Cell<u32>,
}

impl Peer {
    /// Queues a message and wakes the connection.
    pub(super) fn send(&self, parts: &[&[u8]]) {
        encode_text(parts, &mut self.outbox.borrow_mut());
        self.wake.notify_one();
    }

    /// True when it can take something to send.
    pub(super) fn has_room(&self) -> bool {
        self.open.get() && self.outbox.borrow().len() + self.backlog.get() < MAX_BACKLOG
    }
}
