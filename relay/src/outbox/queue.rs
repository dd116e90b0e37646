//! The queue of an outbox. It always takes replies, whose number the permits of the reader bound; it takes events only
//! while there is room.

use super::items::{Item, Queue};
use super::subscription::Subscription;
use crate::memory::ConnectionMemory;
use crate::types::{EoseHints, Refusal, Reply, Row};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// How much an outbox may hold for a slow client.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// The most events that wait.
    pub max_events: usize,
    /// The bytes of event text at which the outbox is full. It may exceed them by one event: it takes one of any size
    /// while it holds less.
    pub max_bytes: usize,
}

/// The connection is closed, so nothing can be sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

/// What remains after a [`take`](Outbox::take).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// There are more items.
    pub items: bool,
    /// It is the turn of the subscriptions that fell behind: [`replay`](Outbox::replay) them.
    pub behind: bool,
}

/// What waits to be sent to one client. An item holds its subscription, which holds the outbox: the owner of the outbox
/// must call [`close`](Self::close) when the client has gone, or the circle is never freed.
pub struct Outbox {
    queue: Mutex<Queue>,
    limits: OutboxLimits,
    memory: Arc<ConnectionMemory>,
    space: Notify,
    /// One permit: the query that has it may fetch rows for free room.
    turn: Semaphore,
    /// Permits for reads of the store by this connection's queries.
    reads: Semaphore,
}

/// The most reads of the store that one connection makes at the same time. The store serves reads in their order of
/// arrival, so a client that asks for 160 filters at once would keep all other clients waiting.
const MAX_READS: usize = 8;

/// How far [`push_rows`](Outbox::push_rows) has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsPushed {
    /// All rows are queued.
    All,
    /// The client has taken nothing for a while. The remaining rows are still where they were.
    Stalled,
}

/// The turn of one query among those of its connection. The next query's turn begins when this one is dropped.
pub struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    /// How many bytes of event text there is room for, at least 1.
    pub room_bytes: usize,
}

impl Outbox {
    /// An empty outbox; `memory` counts its bytes.
    pub fn new(limits: OutboxLimits, memory: Arc<ConnectionMemory>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            limits,
            memory,
            space: Notify::new(),
            turn: Semaphore::new(1),
            reads: Semaphore::new(MAX_READS),
        })
    }

    /// Waits until this connection has fewer than `MAX_READS` reads under way, and counts one more until the permit is
    /// dropped. Cancel safe.
    pub async fn read_permit(&self) -> Result<SemaphorePermit<'_>, Closed> {
        match self.reads.try_acquire() {
            Ok(permit) => Ok(permit),
            // The semaphore is never closed.
            Err(_) => self.reads.acquire().await.map_err(|_| Closed),
        }
    }

    /// The memory that the connection holds.
    pub fn memory(&self) -> &Arc<ConnectionMemory> {
        &self.memory
    }

    /// Queues an answer. Always taken: the reader hands out a bounded number of permits for answers.
    pub fn reply(&self, reply: Reply) {
        self.push_answer(Item::Reply(reply));
    }

    /// Queues an answer, and calls `done` under the lock, before the connection can look. So a connection that sees the
    /// counter which `done` decrements also sees the answer.
    pub fn reply_then(&self, reply: Reply, done: impl FnOnce()) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.items.push_back(Item::Reply(reply));
        }
        done();
        notify(queue);
    }

    /// Queues the EOSE of a subscription. Always taken: it answers a REQ.
    pub fn end_of_stored(&self, subscription: &Arc<Subscription>, hints: EoseHints) {
        self.push_answer(Item::Eose(subscription.clone(), hints));
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
        if queue.closed || !queue.make_room(self.limits, &self.memory) {
            return Err(item);
        }
        queue.push(item, &self.memory);
        notify(queue);
        Ok(())
    }

    /// Moves rows, which their query counts as memory, from the front of `rows` to the queue, and waits for room as the
    /// client reads. Gives up once the client has taken nothing for `patience`. Cancel safe: what was queued stays
    /// queued, the rest stays in `rows`.
    pub async fn push_rows(
        &self,
        subscription: &Arc<Subscription>,
        rows: &mut VecDeque<Row>,
        patience: Duration,
    ) -> Result<RowsPushed, Closed> {
        let mut waiting = None;
        let mut takes = None;
        loop {
            let space = self.space.notified();
            {
                let mut queue = self.queue.lock();
                if queue.closed {
                    return Err(Closed);
                }

                // Not `make_room`: the rows' query has reserved their bytes, so the queue does not need new ones.
                while !rows.is_empty() && queue.is_within(self.limits) {
                    let Some(row) = rows.pop_front() else { break };
                    queue.push(Item::Stored { subscription: subscription.clone(), row }, &self.memory);
                    queue.rows_next = false;
                }

                if rows.is_empty() {
                    notify(queue);
                    return Ok(RowsPushed::All);
                }
                if waiting.is_none() {
                    waiting = Some(Waiting::new(self, &mut queue));
                }

                if takes.is_none() {
                    takes = Some(queue.takes);
                }
                notify(queue);
            }

            // `space` was made before the queue was looked at, so room that came free in between wakes it.
            if timeout(patience, space).await.is_ok() {
                takes = None;
            } else if takes.replace(self.takes()) == takes {
                return Ok(RowsPushed::Stalled);
            }
        }
    }

    /// Waits for this query's turn among those of its connection, and until half of the outbox is free. Rows that are
    /// fetched then can be queued at once, and the client has the other half to read meanwhile. Cancel safe.
    pub async fn turn(&self) -> Result<Turn<'_>, Closed> {
        // The semaphore is never closed.
        let permit = self.turn.acquire().await.map_err(|_| Closed)?;
        let mut waiting = None;
        loop {
            let space = self.space.notified();
            {
                let mut queue = self.queue.lock();
                if queue.closed {
                    return Err(Closed);
                }
                if let Some(room_bytes) = queue.room_for_rows(self.limits, &self.memory) {
                    return Ok(Turn { _permit: permit, room_bytes });
                }
                if waiting.is_none() {
                    waiting = Some(Waiting::new(self, &mut queue));
                }
            }
            space.await;
        }
    }

    /// Notes a subscription to replay from the ring once there is room again.
    pub fn fell_behind(&self, subscription: &Arc<Subscription>) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.behind.push(subscription.clone());
            notify(queue);
        }
    }

    /// Calls `catch_up` for each subscription that fell behind, if it is their turn; true if there was any. Rows that
    /// wait get the room that the replay leaves.
    pub fn replay(&self, mut catch_up: impl FnMut(&Arc<Subscription>)) -> bool {
        let behind = {
            let mut queue = self.queue.lock();
            if !queue.owes_replay(self.limits, &self.memory) {
                return false;
            }
            queue.rows_next = true;
            std::mem::take(&mut queue.behind)
        };
        // Unlocked: each replay pushes into this queue.
        behind.iter().for_each(&mut catch_up);
        if self.queue.lock().may_have_room(self.limits, &self.memory) {
            self.space.notify_waiters();
        }
        true
    }

    /// Waits until there may be something to [`take`](Self::take). Cancel safe.
    pub async fn ready(&self) {
        poll_fn(|cx| if self.watch(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// True where something has happened since the last call. The next thing that happens wakes `task`, which replaces
    /// the task of the last call: an outbox has one connection. The waker is inside the queue, which a push touches
    /// anyway: a delivery to a quiet client costs cache misses more than anything else.
    pub fn watch(&self, task: &Waker) -> bool {
        let mut queue = self.queue.lock();
        match &mut queue.waker {
            Some(waker) => waker.clone_from(task),
            None => queue.waker = Some(task.clone()),
        }
        std::mem::take(&mut queue.notified)
    }

    /// Ends a wait in [`ready`](Self::ready) although nothing was queued: for something else that the connection must
    /// look at.
    pub fn wake(&self) {
        notify(self.queue.lock());
    }

    /// How often items were taken since the connection began. While the number stays the same, the client takes
    /// nothing.
    pub fn takes(&self) -> u64 {
        self.queue.lock().takes
    }

    /// True where the client has taken nothing since [`takes`](Self::takes) was `before`, although something waits for
    /// it.
    pub fn is_stalled_since(&self, before: u64) -> bool {
        let queue = self.queue.lock();
        queue.takes == before && !queue.items.is_empty()
    }

    /// How many replies wait.
    pub fn replies(&self) -> usize {
        let queue = self.queue.lock();
        queue.items.len() - queue.events
    }

    /// Moves up to `max_items` items to `out`, oldest first, and stops after the item that brings the bytes of event
    /// text to `max_bytes`. Waiting rows and subscriptions that fell behind get the freed room in turn: so a long
    /// download delays no other subscription, and a busy subscription does not delay the download.
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
        queue.takes = queue.takes.wrapping_add(u64::from(count > 0));
        if queue.items.is_empty() {
            // Most connections are idle most of the time: the space of a burst must not stay with them.
            queue.items.shrink_to(16);
        }
        queue.give_back();

        let left = Remaining { items: !queue.items.is_empty(), behind: queue.owes_replay(self.limits, &self.memory) };
        let rows = queue.may_have_room(self.limits, &self.memory) && queue.waiting > 0 && !left.behind;
        drop(queue);
        if rows {
            self.space.notify_waiters();
        }
        left
    }

    /// Marks the connection as closed: drops what is queued, and takes nothing from now on.
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

/// Counts a query whose rows found no room at once, until it has queued them or is dropped.
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
        // An aborted query gives up its turn: the connection may replay now.
        notify(queue);
    }
}

/// Unlocks the queue, then wakes the connection: its task may run on another core at once and would find the lock held.
fn notify(mut queue: MutexGuard<'_, Queue>) {
    queue.notified = true;
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}
