//! Both journeys at once, without sockets: publishers and subscribers race on one relay, and every subscription keeps a
//! transcript. Afterwards each transcript is compared with the log by a naive filter: nothing missing, nothing doubled,
//! live events in log order.
//!
//! The store's snapshots may lag, with an older W as those of a replica have: that must change nothing. Or a snapshot
//! may claim a W that it does not have: the test must find that, as the control.
#![allow(clippy::unwrap_used)]

mod oracle;
mod replica;

use oracle::{Transcript, check};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay::cache::{Cache, NoLayer};
use relay::config::Durability;
use relay::ingest::{InFlight, Ingest, IngestSettings, Submission, WriterSettings};
use relay::log::Log;
use relay::memory::ClientMemory;
use relay::outbox::{Item, Outbox, OutboxLimits, Subscription};
use relay::policy::Rules;
use relay::query::{Queries, QueryLimits};
use relay::store::Store;
use relay::store::memory::MemoryStore;
use relay::store::sqlite::{Options, SqliteStore};
use relay::telemetry::Metrics;
use relay::types::{
    Access, Event, EventId, Filter, Kind, Position, PrivateKinds, PublicKey, Refusal, Reply, SubscriptionId, TagFilter,
    Timestamp, Verdict,
};
use replica::{Replica, Snapshots};
use secp256k1::{Keypair, Secp256k1};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

const AUTHORS: u8 = 3;
const EVENTS_A_PUBLISHER: usize = 1_500;
const PUBLISHERS: u64 = 3;
const SUBSCRIBERS: u64 = 6;
/// The kind that is served to its author alone.
const AUTHOR_ONLY: u16 = 30_000;

struct Relay {
    store: Arc<Replica>,
    ingest: Ingest,
    queries: Arc<Queries>,
    log: Arc<Log>,
    /// What a connection's writer does at the moment of sending: it drops what the reader may not read.
    checks_readers: bool,
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::detached())
}

fn keys(author: u8) -> Keypair {
    Keypair::from_seckey_slice(&Secp256k1::new(), &[author + 1; 32]).unwrap()
}

fn pubkey(author: u8) -> PublicKey {
    PublicKey::from_bytes(keys(author).x_only_public_key().0.serialize())
}

fn signed(author: u8, created_at: Timestamp, kind: u16, tags: &[Vec<String>]) -> Arc<Event> {
    let (keys, pubkey, secp) = (keys(author), pubkey(author), Secp256k1::signing_only());
    let sign = |id: &EventId| *secp.sign_schnorr_no_aux_rand(id.as_bytes(), &keys).as_ref();
    Arc::new(Event::build(pubkey, created_at, Kind(kind), tags, "", sign))
}

fn random_event(rng: &mut StdRng, published: &[Arc<Event>]) -> Arc<Event> {
    let author = rng.random_range(0..AUTHORS);
    let at = rng.random_range(1_000..1_030);
    let topics = rng.random_range(1..3);
    let mut tags: Vec<_> = (0..topics).map(|_| vec!["t".to_owned(), rng.random_range(0..4).to_string()]).collect();
    match rng.random_range(0..10) {
        0..5 => tags.push(vec!["salt".to_owned(), rng.random::<u64>().to_string()]),
        5..8 => return signed(author, at, [0, 10_000, 30_000][rng.random_range(0..3)], &tags),
        _ => {
            let targets = published.iter().rev().take(20).filter(|_| rng.random_bool(0.2));
            tags.extend(targets.map(|event| vec!["e".to_owned(), event.id().to_hex()]).collect::<Vec<_>>());
            return signed(author, at, 5, &tags);
        }
    }
    signed(author, at, 1, &tags)
}

fn random_filter(rng: &mut StdRng) -> Filter {
    Filter {
        authors: rng.random_bool(0.4).then(|| [pubkey(rng.random_range(0..AUTHORS))].into()),
        kinds: rng.random_bool(0.5).then(|| [Kind([0, 1, 5, 30_000][rng.random_range(0..4)])].into()),
        // One value, or two that must both be there.
        tags: {
            let count = [0, 0, 0, 1, 2][rng.random_range(0..5)];
            let values: BTreeSet<String> = (0..count).map(|_| rng.random_range(0..4).to_string()).collect();
            values.into_iter().map(|value| TagFilter { letter: b't', values: [value.into()].into() }).collect()
        },
        since: rng.random_bool(0.2).then(|| rng.random_range(1_000..1_030)),
        limit: rng.random_bool(0.7).then(|| rng.random_range(0..30)),
        ..Filter::default()
    }
}

/// A reader who may have authenticated, on a relay where a kind is for its author alone.
fn random_access(rng: &mut StdRng) -> Access {
    let authenticated = rng.random_bool(0.5).then(|| pubkey(rng.random_range(0..AUTHORS)));
    let private_kinds = PrivateKinds::default().with_author_only(vec![Kind(AUTHOR_ONLY)]);
    Access { authenticated: authenticated.into_iter().collect(), private_kinds, ..Access::default() }
}

async fn publish(relay: &Relay, seed: u64) {
    let mut rng = StdRng::seed_from_u64(1_000 + seed);
    let outbox = Outbox::new(OutboxLimits { max_events: 1, max_bytes: 1 }, ClientMemory::unbounded().connect());
    let mut published = Vec::new();
    let in_flight = Arc::new(AtomicUsize::new(0));
    let metrics = metrics();
    let mut answered = 0;
    for _ in 0..EVENTS_A_PUBLISHER {
        let event = random_event(&mut rng, &published);
        published.push(event.clone());
        let submission = Submission {
            event,
            access: Access::default(),
            outbox: outbox.clone(),
            metrics: metrics.clone(),
            received_at: Instant::now(),
            trace: None,
            in_flight: InFlight::start(&in_flight),
        };

        relay.ingest.submit(submission).await.unwrap();
        if rng.random_bool(0.1) {
            answered += wait_for_answers(&outbox, published.len() - answered).await;
        }
    }
    wait_for_answers(&outbox, published.len() - answered).await;
}

/// Waits for `count` OKs, none of which may be an error of the relay.
async fn wait_for_answers(outbox: &Outbox, count: usize) -> usize {
    let mut items = Vec::new();
    while items.len() < count {
        outbox.take(&mut items, usize::MAX, usize::MAX);
        if items.len() < count {
            outbox.ready().await;
        }
    }

    for item in &items {
        let Item::Reply(Reply::Ok { verdict, .. }) = item else { panic!("not an OK") };
        assert!(
            matches!(
                verdict,
                Verdict::Accepted | Verdict::Duplicate | Verdict::Refused(Refusal::Deleted | Refusal::Superseded)
            ),
            "{verdict:?}"
        );
    }
    count
}

/// Opens subscriptions one after the other, each for a random while, until the publishers are done; the last one stays
/// to the end.
async fn subscribe(relay: Arc<Relay>, seed: u64, done: tokio::sync::watch::Receiver<bool>) -> Vec<Transcript> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut transcripts = Vec::new();
    let mut last = false;
    while !last {
        last = *done.borrow();
        let outbox = Outbox::new(
            OutboxLimits { max_events: rng.random_range(1..40), max_bytes: 1 << 20 },
            ClientMemory::unbounded().connect(),
        );
        let filters: Arc<[Filter]> = (0..rng.random_range(1..4)).map(|_| random_filter(&mut rng)).collect();
        let subscription = Subscription::new(SubscriptionId("s".into()), filters.clone(), outbox.clone());
        let limits = QueryLimits {
            default_limit: 20,
            max_limit: 25,
            eose_hints: false,
            boundary_overrun: 0,
            max_text_bytes: if rng.random_bool(0.3) { 2_000 } else { 1 << 20 },
            head_timeout: Duration::from_secs(10),
        };
        let access = random_access(&mut rng);

        let mut transcript = Transcript {
            filters,
            access: access.clone(),
            limits,
            asked_at: relay.log.head().position,
            eose_at: Position(0),
            store_head: None,
            stored: Vec::new(),
            live: Vec::new(),
            drained_at: Position(0),
        };

        let query = tokio::spawn({
            let (relay, subscription) = (relay.clone(), subscription.clone());
            async move { relay.queries.answer(&subscription, &access, limits).await }
        });
        let wanted = rng.random_range(0..60);
        let mut eose = false;
        while !eose || (transcript.live.len() < wanted && !*done.borrow()) {
            let mut changed = done.clone();
            tokio::select! {
                () = outbox.ready() => {}
                _ = changed.changed() => {}
            }
            let before = eose;
            take(&relay, &outbox, &mut transcript, &mut eose);
            if eose && !before {
                transcript.store_head = Some(relay.store.head().await.unwrap().position);
            }
        }

        query.await.unwrap();
        // The head moves before its own entry is delivered; so everything before the head was delivered.
        transcript.drained_at = Position(relay.log.head().position.0.saturating_sub(1));
        while take(&relay, &outbox, &mut transcript, &mut eose) {}
        relay.log.forget(&subscription);
        transcripts.push(transcript);
    }
    transcripts
}

/// What a connection's writer does: take, check, and replay what fell behind.
fn take(relay: &Relay, outbox: &Outbox, transcript: &mut Transcript, eose: &mut bool) -> bool {
    let mut items = Vec::new();
    outbox.take(&mut items, 7, usize::MAX);
    let replayed = outbox.replay(|subscription| relay.log.catch_up(subscription));
    let any = !items.is_empty() || replayed;
    for item in items {
        match item {
            Item::Eose(..) => {
                assert!(!std::mem::replace(eose, true), "a second EOSE");
                transcript.eose_at = relay.log.head().position;
            }
            Item::Reply(other) => panic!("unexpected {other:?}"),
            Item::Ended(_, why) => panic!("ended: {why:?}"),
            Item::Stored { row, .. } => {
                assert!(!*eose, "a stored event after EOSE");
                transcript.stored.push(row.key.id);
            }
            Item::Live { insertion, .. } => {
                assert!(*eose, "a live event before EOSE");
                let readable = !relay.checks_readers || transcript.access.may_read(&insertion.event);
                if !insertion.is_dead() && readable {
                    transcript.live.push(insertion.event.id());
                }
            }
        }
    }
    any
}

async fn run(mode: Snapshots, store: Arc<dyn Store>) -> (Vec<String>, usize) {
    run_checking(mode, store, true).await
}

async fn run_checking(mode: Snapshots, store: Arc<dyn Store>, checks_readers: bool) -> (Vec<String>, usize) {
    let replica = Arc::new(Replica::new(store, mode));
    let start = replica.head().await.unwrap();
    let cache = Cache::new(16 << 20, Arc::new(NoLayer), metrics());
    let log = Log::with_cache(start, 1 << 30, Some(cache), metrics());
    replica.follow(log.clone());
    let settings =
        IngestSettings { queue: 64, verify_threads: 2, writer: WriterSettings { max_batch: 8, sweep: None } };
    let rules = Arc::new(arc_swap::ArcSwap::from_pointee(Rules::default()));

    let (ingest, stations) = Ingest::start(replica.clone(), log.clone(), rules, metrics(), settings).unwrap();
    let relay = Arc::new(Relay {
        store: replica.clone(),
        ingest,
        queries: Queries::new(replica.clone(), log.clone(), metrics()),
        log: log.clone(),
        checks_readers,
    });

    let (finished, done) = tokio::sync::watch::channel(false);
    let subscribers: Vec<_> =
        (0..SUBSCRIBERS).map(|seed| tokio::spawn(subscribe(relay.clone(), seed, done.clone()))).collect();
    futures_util::future::join_all((0..PUBLISHERS).map(|seed| publish(&relay, seed))).await;
    log.reach(replica.head().await.unwrap()).await.unwrap();
    finished.send(true).unwrap();
    let mut transcripts = Vec::new();
    for subscriber in subscribers {
        transcripts.extend(subscriber.await.unwrap());
    }

    drop(relay);
    stations.drained().await.unwrap();
    let entries = log.tail(start).unwrap().entries;
    let errors = transcripts.iter().filter_map(|transcript| check(transcript, &entries).err()).collect();
    (errors, transcripts.len())
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_transcript_agrees_with_the_log() {
    let (errors, all) = run(Snapshots::Honest, memory()).await;
    println!("{all} transcripts");
    assert!(all > 30, "only {all} transcripts");
    assert_eq!(errors, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_transcript_agrees_with_the_log_over_sqlite() {
    for mode in [Snapshots::Honest, Snapshots::Lagging] {
        let folder = tempfile::tempdir().unwrap();
        // Durability is another test's subject; without waiting for the disk, more things race.
        let options = Options { durability: Durability::Relaxed, ..Options::new(folder.path().join("relay.db")) };
        let (errors, all) = run(mode, Arc::new(SqliteStore::open(options).await.unwrap())).await;
        println!("{all} transcripts");
        assert!(all > 20, "only {all} transcripts");
        assert_eq!(errors, Vec::<String>::new(), "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lagging_snapshots_change_nothing() {
    let (errors, all) = run(Snapshots::Lagging, memory()).await;
    println!("{all} transcripts");
    assert!(all > 20, "only {all} transcripts");
    assert_eq!(errors, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn control_a_store_that_claims_a_later_position_is_caught() {
    let (errors, all) = run(Snapshots::Lying, memory()).await;
    println!("{} of {all} transcripts are wrong", errors.len());
    assert!(!errors.is_empty(), "the oracle saw nothing in {all} transcripts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn control_without_the_check_of_readers_at_the_moment_of_sending_others_get_it() {
    let (errors, all) = run_checking(Snapshots::Honest, memory(), false).await;
    println!("{} of {all} transcripts are wrong", errors.len());
    assert!(!errors.is_empty(), "the oracle saw nothing in {all} transcripts");
}
