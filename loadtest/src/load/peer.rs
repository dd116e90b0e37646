//! One connection of the load: it connects, subscribes, reads, and does so again when it breaks or is told to.

use super::audience::SLOTS;
use super::ledger::{Delivery, prefix};
use super::recorder::Recorder;
use super::story::Verdict;
use super::worker::Worker;
use crate::client::{Client, ClientError, Reply, encode_text, event_id, unhex};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// How long a connection waits after a failure, doubled with each up to the last.
const BACK_OFF: Duration = Duration::from_millis(50);
const MOST_DOUBLINGS: u32 = 5;
/// A connection that failed so often is not waited for at the start.
const GIVE_UP_AFTER: u32 = 4;
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
    pub(super) deaf: bool,
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

/// Keeps connection `index` alive until it is aborted.
pub(super) async fn live(worker: Rc<Worker>, index: u32) {
    let peer = worker.peer(index);
    let mut failures = 0;
    let mut connected_before = false;
    loop {
        let permit = worker.doors.acquire().await;
        let start = Instant::now();
        let client = match timeout(CONNECT_WITHIN, worker.connect(peer)).await {
            Ok(client) => client,
            Err(_) => Err(ClientError::Refused("no connection in time".to_owned())),
        };
        drop(permit);
        let error = match client {
            Ok(client) => {
                failures = 0;
                {
                    let mut recorder = worker.recorder.borrow_mut();
                    recorder.connect.record(start.elapsed());
                    recorder.tick.counts.reconnected += u64::from(connected_before);
                }
                connected_before = true;
                let end = session(&worker, peer, client).await;
                peer.open.set(false);
                peer.live.set(false);
                peer.in_flight.set(0);
                peer.asked.borrow_mut().clear();
                peer.outbox.borrow_mut().clear();
                worker.ledger.borrow_mut().broke(index, worker.now());
                match end {
                    Ok(()) => continue,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        worker.recorder.borrow_mut().error(&format!("connection: {error}"));
        failures += 1;
        peer.gave_up.set(failures >= GIVE_UP_AFTER);
        sleep(BACK_OFF * 2u32.pow(failures.min(MOST_DOUBLINGS))).await;
    }
}

/// From the upgrade to the end; `Ok` when it was told to connect again.
async fn session(worker: &Worker, peer: &Peer, mut client: Client) -> Result<(), ClientError> {
    peer.slots_live.set(0);
    peer.closed.set(0);
    let slots = if peer.subscribes { worker.slots() } else { 0 };
    (0..slots).for_each(|part| subscribe(worker, peer, part));
    peer.open.set(true);
    if slots == 0 {
        back(peer, &mut worker.recorder.borrow_mut(), worker.now());
    }
    worker.opened(peer);
    loop {
        if !peer.outbox.borrow().is_empty() {
            client.queue_frames(&mut peer.outbox.borrow_mut());
        }
        let order = peer.wake.notified();
        if peer.deaf && peer.live.get() {
            client.flush().await?;
            order.await;
        } else {
            // One clock reading for all that one read brought.
            let mut now = 0;
            let received = client.receive(&worker.scratch, |message| {
                if now == 0 {
                    now = worker.now();
                }
                hear(worker, peer, message, now);
            });
            tokio::select! {
                biased;
                received = received => received.map(drop)?,
                () = order => {}
            }
        }
        peer.backlog.set(client.backlog());
        if peer.ordered.get() != 0 && peer.live.get() {
            peer.live.set(false);
            return Ok(());
        }
    }
}

fn subscribe(worker: &Worker, peer: &Peer, part: u32) {
    let slot = peer.index * SLOTS + part;
    let since = worker.catch_up_from();
    let mut ledger = worker.ledger.borrow_mut();
    ledger.opened(slot);
    let filter = ledger.audience().filter(slot, since);
    peer.send(&[b"[\"REQ\",\"", name(part), b"\",", filter.as_bytes(), b"]"]);
}

/// Asks again for the subscriptions that the relay closed.
pub(super) fn resubscribe(worker: &Worker, peer: &Peer) {
    let closed = peer.closed.take();
    for part in (0..SLOTS).filter(|part| closed & (1 << part) != 0 && peer.open.get()) {
        peer.slots_live.set(peer.slots_live.get().saturating_sub(1));
        peer.live.set(false);
        subscribe(worker, peer, part);
    }
}

/// Everything is open, for the first time or again.
fn back(peer: &Peer, recorder: &mut Recorder, now: u64) {
    peer.live.set(true);
    let ordered = peer.ordered.replace(0);
    if ordered != 0 {
        recorder.reconnect.record(Duration::from_nanos(now.saturating_sub(ordered)));
    }
}

fn name(part: u32) -> &'static [u8] {
    if part == 0 { b"feed" } else { b"mentions" }
}

/// The part of a connection's subscriptions that a name stands for.
fn part(name: &[u8]) -> Option<u32> {
    match name {
        b"feed" => Some(0),
        b"mentions" => Some(1),
        _ => None,
    }
}

fn words(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Takes one message into account.
fn hear(worker: &Worker, peer: &Peer, message: &[u8], now: u64) {
    let mut recorder = worker.recorder.borrow_mut();
    recorder.tick.counts.received += 1;
    let slot = |part: u32| peer.index * SLOTS + part;
    match Reply::parse(message) {
        Reply::Event { subscription, event } => {
            let Some(part) = part(subscription) else {
                recorder.tick.counts.rows += 1;
                return;
            };
            let Some(id) = event_id(event).and_then(unhex) else {
                return recorder.error("an event without an id");
            };
            let delivery = worker.ledger.borrow_mut().delivered(slot(part), prefix(&id), now, &worker.shared.story);
            match delivery {
                Delivery::Live { intended, via } => {
                    let latency = Duration::from_nanos(now.saturating_sub(intended));
                    recorder.tick.counts.delivered += 1;
                    recorder.tick.latencies.delivery.record(latency);
                    if via != peer.url {
                        recorder.across.record(latency);
                    }
                }
                Delivery::CaughtUp => recorder.tick.counts.delivered += 1,
                Delivery::Again | Delivery::Fault => {}
            }
        }
        Reply::Ok { id, accepted, words: why } => {
            let verdict = match accepted {
                true if why.starts_with(b"duplicate:") => Verdict::Duplicate,
                true => Verdict::Accepted,
                false => Verdict::Refused,
            };
            if !accepted {
                recorder.error(&format!("refused: {}", words(why)));
            }
            let id = unhex(id).map_or(0, |id| prefix(&id));
            if let Some(intended) = worker.ledger.borrow_mut().answered(peer.index, id, verdict, now) {
                recorder.tick.counts.accepted += u64::from(verdict == Verdict::Accepted);
                recorder.tick.latencies.ok.record(Duration::from_nanos(now.saturating_sub(intended)));
                drop(recorder);
                worker.made_room(peer);
            }
        }
        Reply::Eose(subscription) => {
            if let Some(part) = part(subscription) {
                if worker.ledger.borrow_mut().caught_up(slot(part)) {
                    peer.slots_live.set(peer.slots_live.get() + 1);
                }
                if peer.slots_live.get() == worker.slots() && !peer.live.get() {
                    back(peer, &mut recorder, now);
                }
            } else {
                drop(recorder);
                answered(worker, peer, subscription, now);
                peer.send(&[b"[\"CLOSE\",\"", subscription, b"\"]"]);
            }
        }
        Reply::Count { subscription, count } => {
            recorder.tick.counts.rows += count;
            drop(recorder);
            answered(worker, peer, subscription, now);
        }
        Reply::Closed { subscription, words: why } => {
            recorder.error(&format!("closed: {}", words(why)));
            drop(recorder);
            match part(subscription) {
                None => drop(take_asked(peer, subscription)),
                Some(part) => {
                    if worker.ledger.borrow_mut().closed(slot(part)) {
                        peer.closed.set(peer.closed.get() | 1 << part);
                    }
                }
            }
        }
        Reply::Notice(why) => recorder.error(&format!("notice: {}", words(why))),
        Reply::Other => {}
    }
}

fn take_asked(peer: &Peer, name: &[u8]) -> Option<Asked> {
    let number = std::str::from_utf8(name.strip_prefix(b"q")?).ok()?.parse::<u32>().ok()?;
    let mut asked = peer.asked.borrow_mut();
    let at = asked.iter().position(|asked| asked.number == number)?;
    Some(asked.swap_remove(at))
}

fn answered(worker: &Worker, peer: &Peer, name: &[u8], now: u64) {
    let Some(Asked { class, intended, .. }) = take_asked(peer, name) else { return };
    let latency = Duration::from_nanos(now.saturating_sub(intended));
    let mut recorder = worker.recorder.borrow_mut();
    recorder.tick.counts.answered += 1;
    recorder.tick.latencies.query.record(latency);
    if let Some(class) = recorder.classes.get_mut(usize::from(class)) {
        class.record(latency);
    }
}
