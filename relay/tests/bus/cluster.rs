//! Several instances in this process, a publisher, and a subscription on each instance that records its events.

use super::author::Author;
use super::shared::SharedMemory;
use parking_lot::Mutex;
use relay::config::RedisAddress;
use relay::ingest::{ClusterLinks, InFlight, Ingest, IngestSettings, Stations, Submission, WriterSettings};
use relay::log::Log;
use relay::log::bus::redis::RedisBus;
use relay::log::bus::{BusHandle, NoBus};
use relay::memory::ClientMemory;
use relay::outbox::{Item, Outbox, OutboxLimits, Subscription};
use relay::policy::Rules;
use relay::store::{SharedLog, Store};
use relay::task::Tasks;
use relay::telemetry::Metrics;
use relay::types::{Access, Change, Event, EventId, Filter, Kind, Reply, SubscriptionId, Verdict};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);
const BETWEEN_EVENTS: Duration = Duration::from_millis(10);
/// How long the bus may take to bring the last events where the shared log does not.
const AFTERWARDS: Duration = Duration::from_secs(2);

struct Instance {
    ingest: Ingest,
    _stations: Stations,
    log: Arc<Log>,
    up: watch::Receiver<bool>,
    subscription: Arc<Subscription>,
    got: Arc<Mutex<Vec<(EventId, Instant)>>>,
}

pub(crate) struct Cluster {
    instances: Vec<Instance>,
    store: Arc<SharedMemory>,
    author: Author,
    outbox: Arc<Outbox>,
}

/// What the subscriptions of all instances received.
pub(crate) struct Report {
    pub(crate) published: usize,
    pub(crate) missing: usize,
    pub(crate) doubled: usize,
    pub(crate) disordered: usize,
    p50: Duration,
    pub(crate) p99: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, missing, doubled, disordered, p50, p99 } = self;
        write!(
            f,
            "{published} events published, {missing} missing, {doubled} doubled, {disordered} out of order; publish \
             to delivery p50 {p50:?}, p99 {p99:?}"
        )
    }
}

impl Cluster {
    pub(crate) async fn start(instances: usize, redis: Option<&str>, follows_log: bool) -> Self {
        let store = Arc::new(SharedMemory::new(!follows_log));
        let mut started = Vec::new();
        for _ in 0..instances {
            started.push(Instance::start(store.clone(), redis).await);
        }
        let outbox = Outbox::new(OutboxLimits { max_events: 1, max_bytes: 1 }, ClientMemory::unbounded().connect());
        Self { instances: started, store, author: Author::new(), outbox }
    }

    pub(crate) async fn wait_until_up(&self) {
        self.wait_for(true).await;
    }

    pub(crate) async fn wait_until_down(&self) {
        self.wait_for(false).await;
    }

    async fn wait_for(&self, up: bool) {
        for instance in &self.instances {
            let mut state = instance.up.clone();
            tokio::time::timeout(ARRIVAL_TIMEOUT, state.wait_for(|now| *now == up)).await.expect("the bus").unwrap();
        }
    }

    /// Publishes on the instances in turn, while `fault` lasts and a little longer.
    pub(crate) async fn publish_during(&self, fault: impl Future) -> Report {
        let over = watch::Sender::new(false);
        let publish = async {
            let mut sent = HashMap::new();
            let mut after = 50;
            while !*over.borrow() || after > 0 {
                after -= usize::from(*over.borrow());
                let event = Arc::new(self.author.note(&sent.len().to_string()));
                sent.insert(event.id(), Instant::now());
                self.publish(sent.len(), event).await;
                tokio::time::sleep(BETWEEN_EVENTS).await;
            }
            sent
        };

        let (sent, ()) = tokio::join!(publish, async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            fault.await;
            over.send_replace(true);
        });

        let head = self.store.head().await.unwrap();
        for instance in &self.instances {
            // Without the shared log some events may never come: then the report says which are missing.
            let limit = if self.store.mute { AFTERWARDS } else { ARRIVAL_TIMEOUT };
            let _ = tokio::time::timeout(limit, instance.log.reach(head)).await;
        }

        let all_delivered = || self.instances.iter().all(|instance| instance.got.lock().len() >= sent.len());
        let until = Instant::now() + if self.store.mute { Duration::ZERO } else { Duration::from_secs(5) };
        while !all_delivered() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.report(&sent)
    }

    async fn publish(&self, at: usize, event: Arc<Event>) -> Verdict {
        let submission = Submission {
            event,
            access: Access::default(),
            outbox: self.outbox.clone(),
            metrics: Arc::new(Metrics::detached()),
            received_at: Instant::now(),
            trace: None,
            in_flight: InFlight::start(&Arc::new(AtomicUsize::new(0))),
        };

        self.instances[at % self.instances.len()].ingest.submit(submission).await.unwrap();
        let mut items = Vec::new();
        while items.is_empty() {
            self.outbox.ready().await;
            self.outbox.take(&mut items, 1, usize::MAX);
        }
        match items.remove(0) {
            Item::Reply(Reply::Ok { verdict, .. }) => verdict,
            _ => panic!("not an OK"),
        }
    }

    fn report(&self, sent: &HashMap<EventId, Instant>) -> Report {
        let log: Vec<EventId> = self
            .store
            .log()
            .iter()
            .flat_map(|entry| entry.changes.iter())
            .filter_map(|change| match change {
                Change::Inserted(insertion) => Some(insertion.event.id()),
                Change::Removed(_) => None,
            })
            .collect();
        assert_eq!(log.len(), sent.len(), "every event was stored");

        let place: HashMap<EventId, usize> = log.iter().copied().zip(0..).collect();
        let (mut missing, mut doubled, mut disordered) = (0, 0, 0);
        let mut latencies = Vec::new();
        for instance in &self.instances {
            let got = instance.got.lock();
            let distinct: HashSet<EventId> = got.iter().map(|(id, _)| *id).collect();
            missing += log.len() - distinct.len();
            doubled += got.len() - distinct.len();
            disordered += got.windows(2).filter(|pair| place[&pair[0].0] > place[&pair[1].0]).count();
            latencies.extend(got.iter().map(|(id, at)| at.saturating_duration_since(sent[id])));
        }

        latencies.sort();
        let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or_default();
        Report { published: sent.len(), missing, doubled, disordered, p50: at(0.5), p99: at(0.99) }
    }

    /// Publishes one ephemeral event on the first instance, then once more on each instance that has had it. Returns
    /// how often each delivers it.
    pub(crate) async fn ephemeral(&self) -> Vec<usize> {
        let event = Arc::new(self.author.event(20_001, &[], "now"));
        let id = event.id();
        assert_eq!(self.publish(0, event.clone()).await, Verdict::Accepted);
        // Again on every instance that has had it: the event is known there, so it is not delivered again.
        for (at, instance) in self.instances.iter().enumerate() {
            let has_bus = *instance.up.borrow();
            let came = || instance.got.lock().iter().any(|(got, _)| *got == id);
            let until = Instant::now() + ARRIVAL_TIMEOUT;
            while has_bus && !came() {
                assert!(Instant::now() < until, "the event did not come");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if at == 0 || has_bus {
                assert_eq!(self.publish(at, event.clone()).await, Verdict::Duplicate);
            }
        }

        // A stored event that follows takes the same ways: when it has come, the ephemeral one would have come too.
        let last = Arc::new(self.author.note("last"));
        let id = last.id();
        self.publish(0, last).await;
        let arrived = |instance: &Instance| instance.got.lock().iter().any(|(got, _)| *got == id);
        let until = Instant::now() + ARRIVAL_TIMEOUT;
        while !self.instances.iter().all(arrived) {
            assert!(Instant::now() < until, "the last event did not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.instances.iter().map(|instance| instance.got.lock().iter().filter(|(got, _)| *got != id).count()).collect()
    }
}

impl Instance {
    async fn start(store: Arc<SharedMemory>, redis: Option<&str>) -> Self {
        let metrics = Arc::new(Metrics::detached());
        let log = Log::new(store.head().await.unwrap(), 16 << 20, metrics.clone());
        let tasks = Tasks::new(metrics.clone());
        let bus: BusHandle = match redis {
            Some(url) => RedisBus::attach(RedisAddress::parse(url).unwrap(), "test", metrics.clone(), &tasks),
            None => NoBus::attach(),
        };
        let up = bus.publisher.up();
        let settings =
            IngestSettings { queue: 64, verify_threads: 1, writer: WriterSettings { max_batch: 64, sweep: None } };
        let rules = Arc::new(arc_swap::ArcSwap::from_pointee(Rules::default()));

        let links = ClusterLinks { shared_log: store.clone() as Arc<dyn SharedLog>, bus };
        let (ingest, stations) =
            Ingest::start_clustered(store, log.clone(), rules, metrics, settings, Some(links), &tasks).unwrap();
        let outbox =
            Outbox::new(OutboxLimits { max_events: 1_000, max_bytes: 1 << 24 }, ClientMemory::unbounded().connect());
        let kinds = [Kind(1), Kind(20_001)];

        let filters = [Filter { kinds: Some(kinds.into()), ..Filter::default() }];
        let subscription = Subscription::new(SubscriptionId("s".into()), filters.into(), outbox.clone());
        log.open(&subscription, log.head());
        let got: Arc<Mutex<Vec<(EventId, Instant)>>> = Arc::default();
        tokio::spawn(take(log.clone(), outbox, got.clone()));
        Self { ingest, _stations: stations, log, up, subscription, got }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.log.forget(&self.subscription);
        self.subscription.outbox.close();
    }
}

async fn take(log: Arc<Log>, outbox: Arc<Outbox>, got: Arc<Mutex<Vec<(EventId, Instant)>>>) {
    while !outbox.is_closed() {
        outbox.ready().await;
        let mut items = Vec::new();
        outbox.take(&mut items, usize::MAX, usize::MAX);
        let live = items.iter().filter_map(|item| match item {
            Item::Live { insertion, .. } => Some((insertion.event.id(), Instant::now())),
            _ => None,
        });
        got.lock().extend(live);
        outbox.replay(|subscription| log.catch_up(subscription));
    }
}
