//! The task of one connection: it connects, subscribes and reads. It reconnects when the connection breaks or an order
//! comes.

use super::ledger::Delivery;
use super::peer::{Asked, Peer};
use super::recorder::Recorder;
use super::subscriber_plan::SLOTS;
use super::timeline::{PublishOutcome, prefix};
use super::worker::Worker;
use crate::client::{Client, ClientError, Reply, event_id, unhex};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// How long a connection waits after a failure: doubled with each further one, up to [`MOST_DOUBLINGS`] times.
const BACK_OFF: Duration = Duration::from_millis(50);
const MOST_DOUBLINGS: u32 = 5;
/// After this many failures the start of the run does not wait for a connection.
const GIVE_UP_AFTER: u32 = 4;

/// Keeps connection `index` alive until it is aborted.
pub(super) async fn keep_connected(worker: Rc<Worker>, index: u32) {
    let peer = worker.peer(index);
    let mut failures = 0;
    let mut connected_before = false;
    loop {
        let permit = worker.connect_permits.acquire().await;
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

/// Runs a connection from the upgrade to its end; `Ok`: it was ordered to reconnect.
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
        if peer.never_reads && peer.live.get() {
            client.flush().await?;
            order.await;
        } else {
            // The clock is read once for all messages of one read: they have arrived together.
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
    let filter = ledger.subscriber_plan().filter(slot, since);
    peer.send(&[b"[\"REQ\",\"", name(part), b"\",", filter.as_bytes(), b"]"]);
}

/// Opens the subscriptions again that the relay has closed on any connection of a thread.
pub(super) fn resubscribe_all(worker: &Worker) {
    worker.peers.iter().for_each(|peer| resubscribe(worker, peer));
}

fn resubscribe(worker: &Worker, peer: &Peer) {
    let closed = peer.closed.take();
    for part in (0..SLOTS).filter(|part| closed & (1 << part) != 0 && peer.open.get()) {
        peer.slots_live.set(peer.slots_live.get().saturating_sub(1));
        peer.live.set(false);
        subscribe(worker, peer, part);
    }
}

/// Notes that all subscriptions of a connection are live, for the first time or again.
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

/// Which of a connection's subscriptions has the id `name`.
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

/// Records one message.
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
            let delivery = worker.ledger.borrow_mut().delivered(slot(part), prefix(&id), now, &worker.shared.timeline);
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
                true if why.starts_with(b"duplicate:") => PublishOutcome::Duplicate,
                true => PublishOutcome::Accepted,
                false => PublishOutcome::Refused,
            };
            if !accepted {
                recorder.error(&format!("refused: {}", words(why)));
            }
            let id = unhex(id).map_or(0, |id| prefix(&id));
            if let Some(intended) = worker.ledger.borrow_mut().answered(peer.index, id, verdict, now) {
                recorder.tick.counts.accepted += u64::from(verdict == PublishOutcome::Accepted);
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
