//! How much memory queries hold whose client does not read; and a client that reads late misses nothing.
#![allow(clippy::unwrap_used)]

use super::{Queries, QueryLimits};
use crate::log::Log;
use crate::memory::{ClientMemory, HeldFor};
use crate::outbox::{Item, Outbox, OutboxLimits, Subscription};
use crate::store::{MemoryStore, Store};
use crate::telemetry::Metrics;
use crate::types::safeguard::{Safeguard, without};
use crate::types::{Access, Event, Filter, Key, Kind, PublicKey, Refusal, SubscriptionId, Verified, now};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const MIB: usize = 1 << 20;
const QUERIES: usize = 16;
const AUTHORS: u8 = 10;
const EVENTS_OF_EACH: i64 = 40;
/// 40 contents are most of a MiB, so the rows of one filter do not exceed a page.
const CONTENT_BYTES: usize = 24 << 10;

const LIMITS: QueryLimits = QueryLimits {
    default_limit: 500,
    max_limit: 500,
    max_text_bytes: MIB,
    head_timeout: Duration::from_secs(10),
    eose_hints: false,
    boundary_overrun: 0,
};

/// A connection that has sent 16 REQs of 10 filters, each of which selects a MiB.
struct DeafClient {
    account: Arc<ClientMemory>,
    outbox: Arc<Outbox>,
    tasks: tokio::task::JoinSet<()>,
    subscriptions: Vec<Arc<Subscription>>,
}

fn author(n: u8) -> PublicKey {
    PublicKey::from_bytes([n; 32])
}

impl DeafClient {
    async fn begin(account_bytes: usize) -> Self {
        let store = MemoryStore::new();
        let content = "x".repeat(CONTENT_BYTES);
        let events = (0..AUTHORS).flat_map(|n| (0..EVENTS_OF_EACH).map(move |second| (n, second)));
        let events = events.map(|(n, second)| Event::build(author(n), second, Kind(1), &[], &content, |_| [0; 64]));
        store.append(events.map(|event| Verified::vouch(Arc::new(event))).collect(), now()).await.unwrap();
        let metrics = Arc::new(Metrics::detached());
        let log = Log::new(store.head().await.unwrap(), MIB, metrics.clone());
        let queries = Queries::new(Arc::new(store), log, metrics);
        let account = ClientMemory::new(account_bytes);
        let outbox = Outbox::new(OutboxLimits { max_events: 1_000, max_bytes: MIB }, account.connect());
        let filters: Arc<[Filter]> =
            (0..AUTHORS).map(|n| Filter { authors: Some([author(n)].into()), ..Filter::default() }).collect();
        let mut client = Self { account, outbox, tasks: tokio::task::JoinSet::new(), subscriptions: Vec::new() };

        for query in 0..QUERIES {
            let id = SubscriptionId(query.to_string().into());
            let subscription = Subscription::new(id, filters.clone(), client.outbox.clone());
            client.subscriptions.push(subscription.clone());
            let queries = queries.clone();
            client.tasks.spawn(async move { queries.answer(&subscription, &Access::default(), LIMITS).await });
        }
        client
    }

    fn rows_held(&self) -> usize {
        self.account.held_for(HeldFor::Rows)
    }

    /// Waits until nothing has changed for `quiet`; the most bytes that were held for rows until then.
    async fn most_until_quiet(&self, quiet: Duration) -> usize {
        let (mut most, mut last, mut since) = (0, 0, std::time::Instant::now());
        while since.elapsed() < quiet {
            let held = self.rows_held();
            if held != last {
                (last, since) = (held, std::time::Instant::now());
            }
            most = most.max(held);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        most
    }
}

/// Runs `test` without one safeguard.
fn run<F: Future>(off: Option<Safeguard>, test: impl FnOnce() -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    without(off, || runtime.block_on(test()))
}

/// The most bytes held for rows before the client counts as stalled, and the bytes held after that.
fn held_for_a_stalled_client(off: Option<Safeguard>) -> (usize, usize) {
    run(off, || async {
        let client = DeafClient::begin(2 << 30).await;
        let most = client.most_until_quiet(super::send::STALL / 2).await;
        let deadline = std::time::Instant::now() + 3 * super::send::STALL;
        while client.rows_held() > MIB && std::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (most, client.rows_held())
    })
}

#[test]
fn a_query_holds_a_page_and_gives_it_back_where_nobody_reads() {
    let (most, rest) = held_for_a_stalled_client(None);
    assert!(most <= QUERIES * (MIB + MIB / 4), "{most} bytes of rows: a page each");
    assert!(rest <= MIB, "{rest} bytes of rows for a client that does not read: keys alone");
}

#[test]
fn control_without_its_bound_a_query_holds_all_that_its_filters_select() {
    let (most, _) = held_for_a_stalled_client(Some(Safeguard::PageBound));
    assert!(most > 2 * QUERIES * MIB, "{most}");
}

#[test]
fn control_without_giving_back_pages_stay() {
    let (_, rest) = held_for_a_stalled_client(Some(Safeguard::GiveBack));
    assert!(rest > QUERIES * MIB / 2, "{rest}");
}

/// Dropped texts are read again, and each row comes once and in order, in whatever pieces the client takes them.
#[test]
fn a_client_that_reads_late_misses_nothing() {
    run(None, || async {
        let mut client = DeafClient::begin(64 * MIB).await;
        // Some queries read, stall and drop their texts before others get memory to read.
        client.most_until_quiet(2 * super::send::STALL).await;
        assert!(client.rows_held() <= MIB && client.account.held_for(HeldFor::Outbox) > 0);
        let (mut got, mut ended) = (HashMap::<SubscriptionId, Vec<Key>>::new(), 0);
        let mut turn = 0;
        while ended < QUERIES {
            turn += 1;
            let mut items = Vec::new();
            client.outbox.take(&mut items, 1 + turn % 90, 1 << (10 + turn % 12));
            for item in items {
                match item {
                    Item::Stored { subscription, row } => got.entry(subscription.id.clone()).or_default().push(row.key),
                    Item::Eose(..) => ended += 1,
                    Item::Ended(_, why) => panic!("{why:?}"),
                    _ => panic!("nothing else was queued"),
                }
            }
            tokio::task::yield_now().await;
        }

        while client.tasks.join_next().await.is_some() {}
        assert_eq!(got.len(), QUERIES);
        for keys in got.values() {
            assert_eq!(keys.len(), usize::from(AUTHORS) * EVENTS_OF_EACH as usize);
            assert!(keys.is_sorted_by(|one, next| one.order() < next.order()), "newest first, each once");
        }
        client.subscriptions.clear();
        drop(got);
        assert_eq!(client.account.held_bytes(), 0);
    });
}

/// How many queries were ended once another connection needed the memory.
fn ended_for_others(off: Option<Safeguard>) -> usize {
    run(off, || async {
        let client = DeafClient::begin(64 * MIB).await;
        client.most_until_quiet(2 * super::send::STALL).await;
        let other = client.account.connect();
        let _held = other.hold(HeldFor::Filters, 63 * MIB);
        client.most_until_quiet(2 * super::send::STALL).await;
        let mut items = Vec::new();
        client.outbox.take(&mut items, usize::MAX, usize::MAX);
        let ended = |item: &&Item| matches!(item, Item::Ended(_, Refusal::SlowReader));
        items.iter().filter(ended).count()
    })
}

#[test]
fn a_client_that_does_not_read_loses_its_place_to_others() {
    assert!(ended_for_others(None) >= QUERIES - 1);
}

#[test]
fn control_without_that_it_keeps_its_place() {
    assert_eq!(ended_for_others(Some(Safeguard::SlowReaders)), 0);
}

#[test]
fn a_query_for_which_there_is_no_memory_is_refused_after_a_while() {
    run(None, || async {
        let client = DeafClient::begin(16 * MIB).await;
        let other = client.account.connect();
        let _held = other.hold(HeldFor::Filters, 16 * MIB);
        let mut tasks = client.tasks;
        while tasks.join_next().await.is_some() {}
        let mut items = Vec::new();
        client.outbox.take(&mut items, usize::MAX, usize::MAX);
        let refused = |item: &Item| matches!(item, Item::Ended(_, Refusal::Overloaded));
        assert!(items.len() == QUERIES && items.iter().all(refused), "{} items", items.len());
        assert_eq!(client.account.held_bytes(), 16 * MIB, "nothing of it is theirs");
    });
}
