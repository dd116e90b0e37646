//! The queue itself: replies are always taken (their number is bounded by the permits of the reader), events only
//! while there is room.

use super::subscription::Subscription;
use crate::types::{Insertion, Refusal, Reply, Row};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
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
    fn event_bytes(&self) -> Option<usize> {
        match self {
            Self::Reply(_) | Self::Eose(_) | Self::Ended(..) => None,
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
    /// How many queries have rows for which there was no room.
    waiting: usize,
    /// The last room that was made went to those that fell behind: the next is for rows, where any wait.
    rows_next: bool,
    closed: bool,
    /// Something has happened since the connection last asked.
    notified: bool,
    /// The connection, asleep until something happens.
    waker: Option<Waker>,
}

/// What a [`take`](Outbox::take) has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// There are more items.
    pub items: bool,
    /// It is the turn of the subscriptions that fell behind: [`replay`](Outbox::replay) them.
    pub behind: bool,
}

/// What waits to be sent to one client. An item holds its subscription, and that the outbox: whoever makes one calls
/// [`close`](Self::close) when the client has gone, or what waits is never freed.
pub struct Outbox {
    queue: Mutex<Queue>,
    limits: OutboxLimits,
    space: Notify,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: OutboxLimits) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), limits, space: Notify::new() })
    }

    /// Queues an answer. Always taken: the reader hands out a bounded number of permits for answers.
    pub fn reply(&self, reply: Reply) {
        self.push_answer(Item::Reply(reply));
    }

    /// Queues an answer and calls `done` before the connection is woken or can look: so what `done` counts down is over
    /// only once its answer is here.
    pub fn reply_then(&self, reply: Reply, done: impl FnOnce()) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.items.push_back(Item::Reply(reply));
        }
        done();
        notify(queue);
    }

    /// Queues the EOSE of a subscription. Always taken: it answers a REQ.
    pub fn end_of_stored(&self, subscription: &Arc<Subscription>) {
        self.push_answer(Item::Eose(subscription.clone()));
    }

    /// Queues the CLOSED of a subscription that the relay has ended. Always taken: it answers a REQ.
    pub(super) fn ended(&self, subscription: &Arc<Subscription>, why: Refusal) {
        self.push_answer(Item::Ended(subscription.clone(), why));
    }

    fn push_answer(&self, item: Item) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.items.push_back(item);
            notify(queue);
        }
    }

    /// Queues an event if there is room; gives it back if not. Never waits.
    pub fn try_push(&self, item: Item) -> Result<(), Item> {
        let mut queue = self.queue.lock();
        if queue.closed || !queue.has_room(self.limits) {
            return Err(item);
        }
        queue.push(item);
        notify(queue);
        Ok(())
    }

    /// Queues rows in order, waiting for room as the client reads. Cancel safe: what was queued stays queued.
    pub async fn push_rows(
        &self,
        subscription: &Arc<Subscription>,
        rows: impl IntoIterator<Item = Row>,
    ) -> Result<(), Closed> {
        let mut rows = rows.into_iter().peekable();
        let mut waiting = None;
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
                    queue.rows_next = false;
                }
                if rows.peek().is_some() && waiting.is_none() {
                    waiting = Some(Waiting::new(self, &mut queue));
                }
                notify(queue);
            }
            if rows.peek().is_some() {
                space.await;
            }
        }
        Ok(())
    }

    /// Notes a subscription that is to be replayed from the ring once there is room again.
    pub fn fell_behind(&self, subscription: &Arc<Subscription>) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.behind.push(subscription.clone());
            notify(queue);
        }
    }

    /// Calls `catch_up` for each subscription that fell behind, if it is their turn; says whether there was any. What
    /// room they leave is for the rows that wait.
    pub fn replay(&self, mut catch_up: impl FnMut(&Arc<Subscription>)) -> bool {
        let behind = {
            let mut queue = self.queue.lock();
            if !queue.owes_replay(self.limits) {
                return false;
            }
            queue.rows_next = true;
            std::mem::take(&mut queue.behind)
        };
        behind.iter().for_each(&mut catch_up);
        if self.queue.lock().has_room(self.limits) {
            self.space.notify_waiters();
        }
        true
    }

    /// Waits until there may be something to [`take`](Self::take). Cancel safe.
    pub async fn ready(&self) {
        poll_fn(|cx| if self.watch(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Says whether something has happened since it was last asked, and has what happens next wake `task`: the one
    /// that has asked last, since there is one connection. Its waker lies with what a push touches anyway: a delivery
    /// to a quiet client waits for memory more than for anything else.
    pub fn watch(&self, task: &Waker) -> bool {
        let mut queue = self.queue.lock();
        match &mut queue.waker {
            Some(waker) => waker.clone_from(task),
            None => queue.waker = Some(task.clone()),
        }
        std::mem::take(&mut queue.notified)
    }

    /// Ends a wait in [`ready`](Self::ready) although nothing was queued: something else has happened that the
    /// connection wants to know.
    pub fn wake(&self) {
        notify(self.queue.lock());
    }

    /// How many answers wait.
    pub fn replies(&self) -> usize {
        let queue = self.queue.lock();
        queue.items.len() - queue.events
    }

    /// Moves up to `max_items` items to `out`, oldest first, and stops after the one that brings the bytes of event
    /// text to `max_bytes`. The room that this makes goes in turn to rows that wait and to subscriptions that fell
    /// behind: a long download keeps no other subscription from its events, nor a busy one the download from its rows.
    pub fn take(&self, out: &mut Vec<Item>, max_items: usize, max_bytes: usize) -> Remaining {
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
        let left = Remaining { items: !queue.items.is_empty(), behind: queue.owes_replay(self.limits) };
        let rows = queue.has_room(self.limits) && queue.waiting > 0 && !left.behind;
        drop(queue);
        if rows {
            self.space.notify_waiters();
        }
        left
    }

    /// Marks the connection as gone: queued items are dropped, later ones are not taken.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        let waker = queue.waker.take();
        *queue = Queue { closed: true, waker, ..Queue::default() };
        notify(queue);
        self.space.notify_waiters();
    }

    /// True once [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }
}

/// A query whose rows found no room at once; counted until they have.
struct Waiting<'a>(&'a Outbox);

impl<'a> Waiting<'a> {
    fn new(outbox: &'a Outbox, queue: &mut Queue) -> Self {
        queue.waiting += 1;
        Self(outbox)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.waiting = queue.waiting.saturating_sub(1);
        // Where it was aborted, its turn is over.
        notify(queue);
    }
}

/// Wakes the connection, once the queue is unlocked: the waker may run on another core at once.
fn notify(mut queue: MutexGuard<'_, Queue>) {
    queue.notified = true;
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Queue {
    fn has_room(&self, limits: OutboxLimits) -> bool {
        self.events < limits.max_events && self.bytes < limits.max_bytes
    }

    fn owes_replay(&self, limits: OutboxLimits) -> bool {
        !self.behind.is_empty() && self.has_room(limits) && !(self.rows_next && self.waiting > 0)
    }

    fn push(&mut self, item: Item) {
        if let Some(bytes) = item.event_bytes() {
            self.events += 1;
            self.bytes += bytes;
        }
        self.items.push_back(item);
    }
}
