//! A run under load: a test begins it, injects faults, and ends it. Then the clients' transcripts are compared with the
//! log.

use crate::clients::{self, Place};
use crate::kit::Author;
use crate::verdict;
use crate::world::{self, Record, World};
use parking_lot::Mutex;
use relay::types::{EventId, LogEntry};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, JoinSet};

/// The longest time until the last event has reached every subscriber.
const LAST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(45);
/// How many times longer than an OK a delivery may take.
const SLOWER: u32 = 3;

/// A run under load.
pub struct Run {
    pub world: Arc<World>,
    author: Author,
    last: Arc<Mutex<Option<EventId>>>,
    recorder: JoinHandle<Record>,
    publishers: JoinSet<()>,
    subscribers: JoinSet<()>,
}

impl Run {
    /// Starts publishers, each an author at a port with one event every `pace`, and subscribers with their filters; the
    /// log of the database servers at `urls` judges them.
    pub fn start(
        world: World,
        urls: Vec<String>,
        publishing: Vec<(u16, Author)>,
        subscribing: Vec<(Place, Vec<Value>)>,
        pace: Duration,
    ) -> Self {
        let world = Arc::new(world);
        let last = Arc::new(Mutex::new(None));
        let recorder = tokio::spawn(world::record(world.clone(), urls, last.clone()));
        let (mut publishers, mut subscribers) = (JoinSet::new(), JoinSet::new());
        for (seed, (port, author)) in publishing.into_iter().enumerate() {
            publishers.spawn(clients::publisher(world.clone(), port, author, seed as u64, pace));
        }
        for (place, filters) in subscribing {
            subscribers.spawn(clients::subscriber(world.clone(), place, filters));
        }
        Self { world, author: Author::new(), last, recorder, publishers, subscribers }
    }

    /// Waits until this many more events have been acknowledged; returns the times of begin and end.
    pub async fn acknowledged(&self, more: usize) -> (Instant, Instant) {
        let begin = Instant::now();
        let count = || self.world.acknowledged.lock().len();
        let wanted = count() + more;
        deploy::until("events to be acknowledged", deploy::STEP_TIMEOUT, async || {
            if count() >= wanted { Ok(()) } else { Err(format!("{} of {wanted}", count())) }
        })
        .await
        .unwrap();
        (begin, Instant::now())
    }

    /// Waits, under load, for the length of the fault.
    pub async fn lasting(&self, time: Duration) -> (Instant, Instant) {
        let begin = Instant::now();
        tokio::time::sleep(time).await;
        (begin, Instant::now())
    }

    /// Prints the percentiles of a window; returns the 99th.
    pub fn p99(&self, what: &str, (from, to): (Instant, Instant)) -> Duration {
        let (p50, p99, count) = World::latency(&self.world.deliveries, from, to);
        println!("{what}: p50 {p50:?}, p99 {p99:?} over {count} deliveries");
        assert!(count > 0, "nothing was delivered {what}");
        p99
    }

    /// The same, compared with a bound. Where the machine is so busy that an OK takes long in the same window, delivery
    /// may take [`SLOWER`] times that.
    pub fn in_time(&self, what: &str, (from, to): (Instant, Instant), bound: Duration) {
        let p99 = self.p99(what, (from, to));
        let (_, answer, _) = World::latency(&self.world.answers, from, to);
        let allowed = bound.max(answer * SLOWER);
        assert!(p99 < allowed, "{what}: {p99:?}; {bound:?} would do, or {SLOWER} times the {answer:?} of an OK");
    }

    /// Ends the load with an event published at the first of the ports, waits until every client has seen it, and
    /// compares all transcripts with the log.
    pub async fn end_at(self, ports: &[u16]) -> Vec<LogEntry> {
        let (world, record, mut wrong) = self.finish(ports).await;
        wrong.extend(verdict::judge(&world, &record.entries));
        assert_all_well(&wrong);
        record.entries
    }

    /// The same where a promotion at that moment has cut off a part of the log. Returns the faults, and how many
    /// entries were cut off.
    pub async fn end_after_loss_at(self, ports: &[u16], promoted: Instant) -> (Vec<String>, usize) {
        let (world, record, mut wrong) = self.finish(ports).await;
        wrong.extend(verdict::judge_after_loss(&world, &record, promoted));
        (wrong, record.cut_off.len())
    }

    /// Returns the record, and the faults in what the ports serve at the end.
    async fn finish(mut self, ports: &[u16]) -> (Arc<World>, Record, Vec<String>) {
        self.world.quiet.store(true, Ordering::Relaxed);
        while let Some(publisher) = self.publishers.join_next().await {
            publisher.unwrap();
        }
        let event = self.author.event(clients::LAST, &[], "the end");
        clients::publish_last(ports[0], &event).await;
        *self.last.lock() = Some(event.id());
        let everybody = async {
            while let Some(subscriber) = self.subscribers.join_next().await {
                subscriber.unwrap();
            }
        };

        tokio::time::timeout(LAST_DELIVERY_TIMEOUT, everybody).await.expect("the last event reaches every subscriber");
        let record = tokio::time::timeout(LAST_DELIVERY_TIMEOUT, self.recorder)
            .await
            .expect("the log is read to its end")
            .unwrap();
        let (sessions, acknowledged) = (self.world.sessions.lock().len(), self.world.acknowledged.lock().len());

        let deliveries = self.world.deliveries.lock().len();
        println!("{acknowledged} acknowledged, {sessions} sessions, {deliveries} live deliveries");
        let refused = self.world.refused.lock().clone();
        println!("{} refusals, the first: {:?}", refused.len(), refused.iter().take(3).collect::<Vec<_>>());
        let deleted: Vec<_> = self.world.deleted.lock().iter().map(|id| id.to_hex()).collect();
        let mut wrong = Vec::new();
        for port in ports {
            let mut back = 0;
            // The most values that one filter may have.
            for ids in deleted.chunks(1_000) {
                back += clients::found(*port, serde_json::json!({"ids": ids})).await;
            }
            wrong.extend((back > 0).then(|| format!("who asks at port {port} gets {back} deleted events")));
        }
        (self.world, record, wrong)
    }
}

pub fn assert_all_well(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}
