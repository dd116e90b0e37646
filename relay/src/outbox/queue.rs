//! The queue itself: replies are always taken (their number is bounded by the permits of the reader), events only
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

/// How much may wait for a slow client.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// The most events that wait.
    pub max_events: usize,
    /// The most bytes of event text that wait; one event more is taken as long as less than this waits.
    pub max_bytes: usize,
}

/// The connection is gone: there is nobody to send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

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
    memory: Arc<ConnectionMemory>,
    space: Notify,
    /// The query that may fetch rows for the room that comes free.
    turn: Semaphore,
    /// The reads of this connection's queries that the store may have at the same time.
    reads: Semaphore,
}

/// The most reads of one connection that the store is given at the same time: the store serves who comes first, and who
/// asks for 160 filters at once would keep everybody waiting.
const MAX_READS: usize = 8;

/// How far [`push_rows`](Outbox::push_rows) has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsPushed {
    /// All of them are queued.
    All,
    /// The client has taken nothing for a while: what is left was left where it was.
    Stalled,
}

/// The turn of one query among those of its connection; the next one's begins when it is dropped.
pub struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    /// How many bytes of event text there is room for, at least 1.
    pub room_bytes: usize,
}

impl Outbox {
    /// An empty outbox, whose bytes `memory` counts.
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
            // Never closed.
            Err(_) => self.reads.acquire().await.map_err(|_| Closed),
        }
    }

    /// What the connection holds.
    pub fn memory(&self) -> &Arc<ConnectionMemory> {
        &self.memory
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

    /// Moves rows, which their query counts as memory, from the front of `rows` to the queue, waiting for room as the client reads; gives up once the client
    /// has taken nothing for `patience`. Cancel safe: what was queued stays queued, the rest stays in `rows`.
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
                // Their query has counted them: they move from one place to another.
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
            if timeout(patience, space).await.is_ok() {
                takes = None;
            } else if takes.replace(self.takes()) == takes {
                return Ok(RowsPushed::Stalled);
            }
        }
    }

    /// Waits for this query's turn among those of its connection, and until half of the outbox is free: rows that are
    /// fetched now can be queued at once, and the client has enough to read meanwhile. Cancel safe.
    pub async fn turn(&self) -> Result<Turn<'_>, Closed> {
        // Never closed.
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
            if !queue.owes_replay(self.limits, &self.memory) {
                return false;
            }
            queue.rows_next = true;
            std::mem::take(&mut queue.behind)
        };
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

    /// How often items were taken since the connection began: where that stands still, the client takes nothing.
    pub fn takes(&self) -> u64 {
        self.queue.lock().takes
    }

    /// True where the client has taken nothing since [`takes`](Self::takes) was `before`, although something waits for it.
    pub fn is_stalled_since(&self, before: u64) -> bool {
        let queue = self.queue.lock();
        queue.takes == before && !queue.items.is_empty()
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
        queue.takes = queue.takes.wrapping_add(u64::from(count > 0));
        if queue.items.is_empty() {
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
