//! The stations as one pipeline: the order in which events leave it, and ephemeral events that come again.

use super::{InFlight, Ingest, IngestSettings, Submission, WriterSettings};
use crate::log::Log;
use crate::memory::ClientMemory;
use crate::outbox::{Item, Outbox, OutboxLimits, Subscription};
use crate::store::MemoryStore;
use crate::telemetry::Metrics;
use crate::types::safeguard::{Safeguard, without};
use crate::types::{
    Access, Event, EventId, Filter, Head, Kind, PublicKey, Reply, ReplyId, SubscriptionId, Verdict, now,
};
use secp256k1::{Keypair, Secp256k1, SignOnly};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a test waits for an answer.
const DEADLINE: Duration = Duration::from_secs(20);

struct Author {
    curve: Secp256k1<SignOnly>,
    keys: Keypair,
}

impl Author {
    fn new() -> Self {
        let curve = Secp256k1::signing_only();
        Self { keys: Keypair::from_seckey_slice(&curve, &[7; 32]).unwrap(), curve }
    }

    fn event(&self, kind: u16, content: &str) -> Arc<Event> {
        let pubkey = PublicKey::from_bytes(self.keys.x_only_public_key().0.serialize());
        Arc::new(Event::build(pubkey, now(), Kind(kind), &[], content, |id| {
            *self.curve.sign_schnorr_no_aux_rand(id.as_bytes(), &self.keys).as_ref()
        }))
    }
}

/// A pipeline with three workers, one client that publishes, and one subscription to everything.
struct Pipeline {
    ingest: Ingest,
    publisher: Arc<Outbox>,
    subscriber: Arc<Outbox>,
    metrics: Arc<Metrics>,
}

impl Pipeline {
    fn start() -> Self {
        let metrics = Arc::new(Metrics::detached());
        let log = Log::new(Head::default(), 1 << 20, metrics.clone());
        let writer = WriterSettings { max_batch: 64, sweep: None };
        let settings = IngestSettings { queue: 64, verify_threads: 3, writer };
        let store = Arc::new(MemoryStore::default());
        let (ingest, _) = Ingest::start(store, log.clone(), Arc::default(), metrics.clone(), settings).unwrap();
        let outbox = || {
            Outbox::new(
                OutboxLimits { max_events: usize::MAX, max_bytes: usize::MAX },
                ClientMemory::unbounded().connect(),
            )
        };
        let (publisher, subscriber) = (outbox(), outbox());
        let everything = [Filter::default()].into();
        let subscription = Subscription::new(SubscriptionId("s".into()), everything, subscriber.clone());
        log.open(&subscription, log.head());
        Self { ingest, publisher, subscriber, metrics }
    }

    async fn submit(&self, event: &Arc<Event>) {
        let submission = Submission {
            event: event.clone(),
            access: Access::default(),
            outbox: self.publisher.clone(),
            metrics: self.metrics.clone(),
            received_at: Instant::now(),
            trace: None,
            in_flight: InFlight::start(&Arc::default()),
        };
        self.ingest.submit(submission).await.unwrap();
    }

    /// The next `count` answers.
    async fn answers(&self, count: usize) -> Vec<(EventId, Verdict)> {
        let answer = |item| match item {
            Item::Reply(Reply::Ok { id: ReplyId::Id(id), verdict }) => (id, verdict),
            _ => panic!("only answers come here"),
        };
        take(&self.publisher, count).await.into_iter().map(answer).collect()
    }

    /// The next `count` events that the subscription is sent.
    async fn delivered(&self, count: usize) -> Vec<EventId> {
        let id = |item| match item {
            Item::Live { insertion, .. } => insertion.event.id(),
            _ => panic!("only live events come here"),
        };
        take(&self.subscriber, count).await.into_iter().map(id).collect()
    }
}

async fn take(outbox: &Outbox, count: usize) -> Vec<Item> {
    let mut items = Vec::new();
    let all = async {
        loop {
            let missing = count - items.len();
            outbox.take(&mut items, missing, usize::MAX);
            if items.len() == count {
                break;
            }
            outbox.ready().await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.unwrap();
    items
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// How many neighbours of 400 events, every third one ephemeral, are answered or delivered in the wrong order.
async fn inversions() -> usize {
    let (pipeline, author) = (Pipeline::start(), Author::new());
    let kind = |n: usize| if n.is_multiple_of(3) { 20_001 } else { 1 };
    let events: Vec<_> = (0..400).map(|n| author.event(kind(n), &n.to_string())).collect();
    let submit = async {
        for event in &events {
            pipeline.submit(event).await;
        }
    };
    let (answers, delivered, ()) = tokio::join!(pipeline.answers(400), pipeline.delivered(400), submit);
    assert!(answers.iter().all(|(_, verdict)| *verdict == Verdict::Accepted));
    let answered: Vec<_> = answers.into_iter().map(|(id, _)| id).collect();
    [answered, delivered].iter().map(|ids| inverted(&events, ids)).sum()
}

fn inverted(events: &[Arc<Event>], ids: &[EventId]) -> usize {
    let place = |id: &EventId| events.iter().position(|event| event.id() == *id).unwrap();
    let places: Vec<_> = ids.iter().map(place).collect();
    places.windows(2).filter(|pair| matches!(pair, [before, after] if before > after)).count()
}

#[test]
fn events_leave_in_the_order_in_which_they_came() {
    for _ in 0..3 {
        assert_eq!(block_on(inversions()), 0);
    }
    let disordered = || (0..100).any(|_| block_on(inversions()) > 0);
    assert!(without(Some(Safeguard::FrameOrder), disordered), "control: a worker overtakes another");
}

/// What the order costs: `cargo test --release -p relay --lib the_order_costs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn the_order_costs_a_share_of_the_throughput() {
    const EVENTS: usize = 10_000;
    let author = Author::new();
    let events: Vec<_> = (0..EVENTS).map(|n| author.event(1, &n.to_string())).collect();
    let seconds = || {
        let start = Instant::now();
        block_on(async {
            let pipeline = Pipeline::start();
            let submit = async {
                for event in &events {
                    pipeline.submit(event).await;
                }
            };
            tokio::join!(pipeline.answers(EVENTS), submit);
        });
        start.elapsed().as_secs_f64()
    };
    let (mut ordered, mut unordered) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        ordered.push(seconds());
        unordered.push(without(Some(Safeguard::FrameOrder), seconds));
    }
    let median = |mut all: Vec<f64>| {
        all.sort_unstable_by(f64::total_cmp);
        EVENTS as f64 / all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let (ordered, unordered) = (median(ordered), median(unordered));
    println!("{ordered:.0} events a second in order, {unordered:.0} without: {:.1} %", 100.0 * ordered / unordered);
}

/// How often an ephemeral event is delivered that is handed in three times, and how each is answered.
async fn handed_in_thrice() -> (usize, Vec<Verdict>) {
    let (pipeline, author) = (Pipeline::start(), Author::new());
    let (event, last) = (author.event(20_001, "now"), author.event(20_001, "last"));
    // Not one behind the other: where the first has passed, admission knows it, else the writer.
    pipeline.submit(&event).await;
    let mut answers = pipeline.answers(1).await;
    pipeline.submit(&event).await;
    pipeline.submit(&event).await;
    answers.extend(pipeline.answers(2).await);
    pipeline.submit(&last).await;
    answers.extend(pipeline.answers(1).await);
    let mut times = 0;
    while pipeline.delivered(1).await != [last.id()] {
        times += 1;
    }
    (times, answers.into_iter().map(|(_, verdict)| verdict).collect())
}

#[test]
fn an_ephemeral_event_is_delivered_once() {
    use Verdict::{Accepted, Duplicate};
    let (times, verdicts) = block_on(handed_in_thrice());
    assert_eq!((times, verdicts), (1, vec![Accepted, Duplicate, Duplicate, Accepted]));
    let (times, _) = without(Some(Safeguard::RecentEphemeral), || block_on(handed_in_thrice()));
    assert_eq!(times, 3, "control");
}

/// Ahead of the real event comes one with its id and another's signature.
#[test]
fn a_forgery_does_not_keep_an_ephemeral_event_out() {
    let verdicts = block_on(async {
        let (pipeline, author) = (Pipeline::start(), Author::new());
        let (event, other) = (author.event(20_001, "now"), author.event(20_001, "other"));
        let signature = |event: &Event| event.text()[event.text().len() - 130..].to_owned();
        let forged = event.text().replace(&signature(&event), &signature(&other));
        for event in [Arc::new(Event::parse(&forged).unwrap()), event] {
            pipeline.submit(&event).await;
        }
        let answers = pipeline.answers(2).await;
        assert_eq!(pipeline.delivered(1).await.len(), 1);
        answers.into_iter().map(|(_, verdict)| verdict).collect::<Vec<_>>()
    });
    assert_eq!(verdicts, [Verdict::Refused(crate::types::Refusal::WrongSignature), Verdict::Accepted]);
}
