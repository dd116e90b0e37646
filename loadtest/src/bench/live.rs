//! Measures how fast an event reaches its subscribers. Counts every delivery, also lost and doubled ones.

use super::{Meter, Round, SILENCE, Site};
use crate::client::{Client, ClientError, Reply, event_id, unhex};
use crate::events::{Authors, Random, Signed};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The publisher's pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LivePace {
    /// As fast as deliveries allow: at most this many events have not reached every subscriber yet. This measures the
    /// rate that a relay sustains, not how much it buffers.
    Flood {
        /// The events under way.
        under_way: usize,
    },
    /// This many events a second, whatever has been delivered.
    Steady {
        /// Events a second.
        per_second: f64,
    },
}

/// One round of live deliveries.
#[derive(Debug)]
pub struct Live {
    /// How many connections subscribe. Each has a filter of its own that every event matches: ten authors and kind 1.
    pub subscribers: usize,
    /// The publisher's pace.
    pub pace: LivePace,
    /// Notes of one author, unknown to the relay.
    pub events: Vec<Signed>,
    /// The rank of that author.
    pub author: usize,
    /// Once nothing has come for this long, the missing deliveries are lost.
    pub silence: Duration,
}

struct LiveShared {
    /// The index of an event, by its id.
    index: FxHashMap<[u8; 32], usize>,
    /// When each was handed to the socket.
    sent: RefCell<Vec<Instant>>,
    /// How many subscribers have yet to get each.
    missing: RefCell<Vec<usize>>,
    /// How many events have reached everyone.
    complete: Cell<usize>,
    progress: Notify,
    last: Cell<Instant>,
    round: RefCell<Round>,
}

/// Subscribes, waits for every EOSE, then publishes all events. Waits until every subscriber has every event, or until
/// nothing has come for the plan's silence. Latency is the time from handing an event to the socket to its reading at
/// each subscriber, on one clock; it includes the reading of the subscribers before that one. To be run in a
/// `LocalSet`.
///
/// # Errors
/// A connection that cannot be opened, or the publisher's breaking. A subscriber's breaking is counted as a fault.
pub async fn live(site: &Site, plan: Live, authors: &Authors, random: &mut Random) -> Result<Round, ClientError> {
    let events = Rc::<[Signed]>::from(plan.events);
    let shared = Rc::new(LiveShared {
        index: events.iter().enumerate().map(|(index, event)| (event.id, index)).collect(),
        sent: RefCell::default(),
        missing: RefCell::new(vec![plan.subscribers; events.len()]),
        complete: Cell::new(0),
        progress: Notify::new(),
        last: Cell::new(Instant::now()),
        round: RefCell::default(),
    });

    let mut subscribers = JoinSet::new();
    for index in 0..plan.subscribers {
        let mut filter = format!(r#"["REQ","live",{{"kinds":[1],"limit":1,"authors":["{}""#, authors.hex(plan.author));
        for _ in 0..9 {
            filter.push_str(&format!(r#","{}""#, authors.hex(random.below(authors.len()))));
        }
        filter.push_str("]}]");
        let mut client = site.connect(index).await?;
        client.queue(&[filter.as_bytes()]);
        await_eose(&mut client, site).await?;
        subscribers.spawn_local(subscribe(client, site.clone(), shared.clone()));
    }

    let mut publisher = site.connect(plan.subscribers).await?;
    let meter = Meter::start(site.pid);
    let published = send(&mut publisher, site, (plan.pace, plan.silence), &events, &shared).await;
    subscribers.abort_all();
    while subscribers.join_next().await.is_some() {}
    published?;
    let mut round = shared.round.take();
    round.faults.add("deliveries lost", shared.missing.borrow().iter().sum::<usize>() as u64);
    meter.stop(shared.last.get(), &mut round);
    Ok(round)
}

async fn await_eose(client: &mut Client, site: &Site) -> Result<(), ClientError> {
    let mut answered = None;
    while answered.is_none() {
        let answers = client.receive(&site.scratch, |message| match Reply::parse(message) {
            Reply::Eose(_) => answered = Some(Ok(())),
            Reply::Closed { words, .. } => answered = Some(Err(String::from_utf8_lossy(words).into_owned())),
            _ => {}
        });
        let silent = |_| ClientError::Refused("no EOSE in time".to_owned());
        timeout(SILENCE, answers).await.map_err(silent)??;
    }
    answered.unwrap_or(Ok(())).map_err(ClientError::Refused)
}

async fn subscribe(mut client: Client, site: Site, shared: Rc<LiveShared>) {
    let mut seen = vec![0u64; shared.index.len().div_ceil(64)];
    loop {
        // The clock is read once for all messages of one read: they have arrived together.
        let mut now = None;
        let received = client.receive(&site.scratch, |message| {
            let now = *now.get_or_insert_with(Instant::now);
            match Reply::parse(message) {
                Reply::Event { event, .. } => shared.delivered(event, &mut seen, now),
                Reply::Closed { words, .. } => shared.fault(&format!("CLOSED {}", String::from_utf8_lossy(words))),
                _ => {}
            }
        });

        if let Err(error) = received.await {
            return shared.fault(&format!("subscriber: {error}"));
        }
    }
}

impl LiveShared {
    fn fault(&self, fault: &str) {
        self.round.borrow_mut().faults.add(fault, 1);
    }

    fn delivered(&self, event: &[u8], seen: &mut [u64], now: Instant) {
        let Some(&index) = event_id(event).and_then(unhex).and_then(|id| self.index.get(&id)) else {
            return self.fault("an event that was not published");
        };
        let (word, bit) = (index / 64, 1 << (index % 64));
        if seen[word] & bit != 0 {
            return self.fault("delivered twice");
        }

        seen[word] |= bit;
        let mut round = self.round.borrow_mut();
        round.operations += 1;
        if let Some(sent) = self.sent.borrow().get(index) {
            round.latency.record(now.saturating_duration_since(*sent));
        }
        self.last.set(now);
        let mut missing = self.missing.borrow_mut();
        missing[index] -= 1;
        if missing[index] == 0 {
            self.complete.set(self.complete.get() + 1);
            self.progress.notify_one();
        }
    }
}

/// Publishes at the plan's pace until all deliveries have come, or none comes any more.
async fn send(
    client: &mut Client,
    site: &Site,
    (pace, silence): (LivePace, Duration),
    events: &[Signed],
    shared: &LiveShared,
) -> Result<(), ClientError> {
    let per_second = if let LivePace::Steady { per_second } = pace { per_second } else { 1.0 };
    let mut ticks = interval(Duration::from_secs_f64(1.0 / per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let is_steady = matches!(pace, LivePace::Steady { .. });
    let (mut sent, mut heard) = (0, 0);
    while shared.complete.get() < events.len() {
        let until = match pace {
            LivePace::Flood { under_way } => events.len().min(shared.complete.get() + under_way),
            LivePace::Steady { .. } => sent,
        };
        for event in &events[sent..until.max(sent)] {
            publish(client, event, shared);
        }

        sent = sent.max(until);
        let answers = client.receive(&site.scratch, |message| {
            if let Reply::Ok { accepted: false, words, .. } = Reply::parse(message) {
                shared.fault(&format!("refused: {}", String::from_utf8_lossy(words)));
            }
        });

        tokio::select! {
            answers = answers => answers.map(drop)?,
            () = shared.progress.notified() => {}
            _ = ticks.tick(), if sent < events.len() && is_steady => {
                publish(client, &events[sent], shared);
                sent += 1;
            }
            () = tokio::time::sleep(silence) => {
                let delivered = shared.round.borrow().operations;
                if delivered == heard {
                    return Ok(());
                }
                heard = delivered;
            }
        }
    }
    Ok(())
}

fn publish(client: &mut Client, event: &Signed, shared: &LiveShared) {
    client.queue(&[b"[\"EVENT\",", event.text.as_bytes(), b"]"]);
    shared.sent.borrow_mut().push(Instant::now());
}
