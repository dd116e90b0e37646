//! The queue itself: replies are always taken (their number is bounded by the permits of the reader), events only
//! while there is room.

use super::subscription::Subscription;
use crate::types::{Insertion, Reply, Row};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// How much may wait for a slow client.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// The most events that wait.
    pub max_events: usize,
    /// The most bytes of event text that wait; one event more is taken as long as less than this waits.
    pub max_bytes: usize,
}

/// One thing to send.
pub enum Item {
    /// An answer.
    Reply(Reply),
    /// Everything that was stored has been queued before this. Not sent once the client has closed or replaced the
    /// subscription: the new one of the same id would take it for its own.
    Eose(Arc<Subscription>),
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
    fn event_bytes(&self) -> Option<usize> {
        match self {
            Self::Reply(_) | Self::Eose(_) => None,
            Self::Stored { row, .. } => Some(row.text.len()),
            Self::Live { insertion, .. } => Some(insertion.event.text().len()),
        }
    }
}

/// The connection is gone: there is nobody to send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    events: usize,
    bytes: usize,
    behind: Vec<Arc<Subscription>>,
    closed: bool,
}

/// What waits to be sent to one client.
pub struct Outbox {
    queue: Mutex<Queue>,
    limits: OutboxLimits,
    ready: Notify,
    space: Notify,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: OutboxLimits) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), limits, ready: Notify::new(), space: Notify::new() })
    }

    /// Queues an answer. Always taken: the reader hands out a bounded number of permits for answers.
    pub fn reply(&self, reply: Reply) {
        self.push_answer(Item::Reply(reply));
    }

    /// Queues the EOSE of a subscription. Always taken: it answers a REQ.
    pub fn end_of_stored(&self, subscription: &Arc<Subscription>) {
        self.push_answer(Item::Eose(subscription.clone()));
    }

    fn push_answer(&self, item: Item) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.items.push_back(item);
            drop(queue);
            self.ready.notify_one();
        }
    }

    /// Queues an event if there is room; gives it back if not. Never waits.
    pub fn try_push(&self, item: Item) -> Result<(), Item> {
        let mut queue = self.queue.lock();
        if queue.closed || !queue.has_room(self.limits) {
            return Err(item);
        }
        queue.push(item);
        drop(queue);
        self.ready.notify_one();
        Ok(())
    }

    /// Queues rows in order, waiting for room as the client reads. Cancel safe: what was queued stays queued.
    pub async fn push_rows(
        &self,
        subscription: &Arc<Subscription>,
        rows: impl IntoIterator<Item = Row>,
    ) -> Result<(), Closed> {
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let space = self.space.notified();
            {
                let mut queue = self.queue.lock();
                if queue.closed {
                    return Err(Closed);
                }
                while queue.has_room(self.limits) {
                    let Some(row) = rows.next() else { break };
                    queue.push(Item::Stored { subscription: subscription.clone(), row });
                }
            }
            self.ready.notify_one();
            if rows.peek().is_some() {
                space.await;
            }
        }
        Ok(())
    }

    /// Notes a subscription that is to be replayed from the ring once the outbox has drained.
    pub fn fell_behind(&self, subscription: &Arc<Subscription>) {
        self.queue.lock().behind.push(subscription.clone());
        self.ready.notify_one();
    }

    /// Takes the subscriptions that fell behind: the caller replays each.
    pub fn take_behind(&self) -> Vec<Arc<Subscription>> {
        std::mem::take(&mut self.queue.lock().behind)
    }

    /// Waits until there may be something to [`take`](Self::take). Cancel safe.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Ends a wait in [`ready`](Self::ready) although nothing was queued: something else has happened that the
    /// connection wants to know.
    pub fn wake(&self) {
        self.ready.notify_one();
    }

    /// How many answers wait.
    pub fn replies(&self) -> usize {
        let queue = self.queue.lock();
        queue.items.len() - queue.events
    }

    /// Moves up to `max_items` items to `out`, oldest first, and stops after the one that brings the bytes of event
    /// text to `max_bytes`. Says whether anything is left (items or subscriptions that fell behind).
    pub fn take(&self, out: &mut Vec<Item>, max_items: usize, max_bytes: usize) -> bool {
        let mut queue = self.queue.lock();
        let (mut count, mut events, mut bytes) = (0, 0, 0);
        for item in queue.items.iter().take(max_items) {
            if bytes >= max_bytes {
                break;
            }
            count += 1;
            if let Some(size) = item.event_bytes() {
                events += 1;
                bytes += size;
            }
        }
        out.extend(queue.items.drain(..count));
        queue.events -= events;
        queue.bytes -= bytes;
        if queue.items.is_empty() {
            queue.items.shrink_to(16);
        }
        let left = !queue.items.is_empty() || !queue.behind.is_empty();
        let room = queue.has_room(self.limits);
        drop(queue);
        if room && events > 0 {
            self.space.notify_waiters();
        }
        left
    }

    /// Marks the connection as gone: queued items are dropped, later ones are not taken.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        *queue = Queue { closed: true, ..Queue::default() };
        drop(queue);
        self.space.notify_waiters();
        self.ready.notify_one();
    }

    /// True once [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }
}

impl Queue {
    fn has_room(&self, limits: OutboxLimits) -> bool {
        self.events < limits.max_events && self.bytes < limits.max_bytes
    }

    fn push(&mut self, item: Item) {
        if let Some(bytes) = item.event_bytes() {
            self.events += 1;
            self.bytes += bytes;
        }
        self.items.push_back(item);
    }
}
