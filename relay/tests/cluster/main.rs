//! Many instances, one log: publishers and subscribers with random filters on three relay processes keep transcripts
//! while things die, hang and lag; afterwards every transcript is held against the log in Postgres with a naive filter:
//! nothing missing, nothing doubled, live events in the order of their positions, every acknowledged event there.

#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod cache;
mod clients;
mod faults;
#[path = "../kit/mod.rs"]
mod kit;
#[path = "../journey_oracle/oracle.rs"]
mod oracle;
mod stage;
mod verdict;
mod world;

use kit::Author;
use parking_lot::Mutex;
use relay::types::{EventId, LogEntry};
use stage::Stage;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, JoinSet};
use world::World;

/// How long the last event may take to everybody.
const PATIENCE: Duration = Duration::from_secs(45);
const SUBSCRIBERS_EACH: usize = 5;

/// A run under load: begin it, do something to the stage, end it.
pub struct Run {
    pub world: Arc<World>,
    author: Author,
    last: Arc<Mutex<Option<EventId>>>,
    recorder: JoinHandle<Vec<LogEntry>>,
    publishers: JoinSet<()>,
    subscribers: JoinSet<()>,
}

impl Run {
    /// Starts a publisher on each relay, one event every `pace`, and the subscribers.
    pub fn begin(stage: &Stage, pace: Duration) -> Self {
        Self::begin_on(stage, &[0, 1, 2], pace)
    }

    /// The same with publishers on some relays only.
    pub fn begin_on(stage: &Stage, publishing: &[usize], pace: Duration) -> Self {
        let world = Arc::new(World::default());
        let last = Arc::new(Mutex::new(None));
        let recorder = tokio::spawn(world::record(world.clone(), world::urls(&stage.postgres), last.clone()));
        let authors: Vec<_> = stage.relays.iter().map(|_| Author::new()).collect();
        let (mut publishers, mut subscribers) = (JoinSet::new(), JoinSet::new());
        for (index, relay) in stage.relays.iter().enumerate() {
            let seed = index as u64;
            if publishing.contains(&index) {
                publishers.spawn(clients::publisher(world.clone(), relay.port, authors[index].clone(), seed, pace));
            }
            for n in 0..SUBSCRIBERS_EACH {
                let filters = clients::filters(&authors, (index * 100 + n) as u64);
                subscribers.spawn(clients::subscriber(world.clone(), index, relay.port, filters));
            }
        }
        Self { world, author: Author::new(), last, recorder, publishers, subscribers }
    }

    /// Waits until so many more events have been acknowledged, and gives the moments of begin and end.
    pub async fn acknowledged(&self, more: usize) -> (Instant, Instant) {
        let begin = Instant::now();
        let count = || self.world.acknowledged.lock().len();
        let wanted = count() + more;
        deploy::until("events to be acknowledged", deploy::PATIENCE, async || {
            if count() >= wanted { Ok(()) } else { Err(format!("{} of {wanted}", count())) }
        })
        .await
        .unwrap();
        (begin, Instant::now())
    }

    /// Waits, under load, as long as the fault lasts that is tested.
    pub async fn lasting(&self, time: Duration) -> (Instant, Instant) {
        let begin = Instant::now();
        tokio::time::sleep(time).await;
        (begin, Instant::now())
    }

    /// Prints the percentiles of a window and gives the 99th.
    pub fn p99(&self, what: &str, (from, to): (Instant, Instant)) -> Duration {
        let (p50, p99, count) = self.world.latency(from, to);
        println!("{what}: p50 {p50:?}, p99 {p99:?} over {count} deliveries");
        assert!(count > 0, "nothing was delivered {what}");
        p99
    }

    /// Ends the load, waits until everybody has seen its end, and holds all transcripts against the log.
    pub async fn end(mut self, stage: &Stage) -> Vec<LogEntry> {
        self.world.quiet.store(true, Ordering::Relaxed);
        while let Some(publisher) = self.publishers.join_next().await {
            publisher.unwrap();
        }
        let event = self.author.event(clients::LAST, &[], "the end");
        clients::publish_last(stage.relays[0].port, &event).await;
        *self.last.lock() = Some(event.id());
        let everybody = async {
            while let Some(subscriber) = self.subscribers.join_next().await {
                subscriber.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, everybody).await.expect("the last event reaches every subscriber");
        let entries = tokio::time::timeout(PATIENCE, self.recorder).await.expect("the log is read to its end").unwrap();
        let wrong = verdict::judge(&self.world, &entries);
        let (sessions, acknowledged) = (self.world.sessions.lock().len(), self.world.acknowledged.lock().len());
        let deliveries = self.world.deliveries.lock().len();
        println!("{acknowledged} acknowledged, {sessions} sessions, {deliveries} live deliveries");
        let refused = self.world.refused.lock();
        println!("{} refusals, the first: {:?}", refused.len(), refused.iter().take(3).collect::<Vec<_>>());
        assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
        entries
    }
}
