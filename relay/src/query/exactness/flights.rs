//! Single-flight: one read for all queries that ask the same at once.

use crate::cache::{Cache, NoLayer, Purge, SharedLayer};
use crate::log::Log;
use crate::query::held::QueryMemory;
use crate::query::{Queries, QueryError, QueryLimits};
use crate::store::memory::MemoryStore;
use crate::store::rules::Vanish;
use crate::store::{Appended, Counted, Page, Read, Store, StoreError};
use crate::telemetry::Metrics;
use crate::types::{
    Access, Event, EventId, Filter, Head, Kind, LogEntry, Position, PublicKey, Row, Timestamp, Verified, now,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Room for some 2,000 entries.
const RING_BYTES: usize = 2 << 20;

const LIMITS: QueryLimits = QueryLimits {
    default_limit: 20,
    max_limit: 20,
    max_text_bytes: 1 << 20,
    head_timeout: Duration::from_secs(10),
    eose_hints: false,
    boundary_overrun: 0,
};

/// A store that counts its reads, holds them at a gate, and fails them while `broken`.
pub(super) struct Slow {
    pub(super) store: MemoryStore,
    reads: AtomicUsize,
    gate: Semaphore,
    broken: AtomicBool,
}

impl Store for Slow {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.store.head()
    }
    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        self.store.known(ids, at_least)
    }
    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.store.append(batch, now)
    }
    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let _passed = self.gate.acquire().await;
            if self.broken.load(Ordering::SeqCst) { Err(StoreError::Timeout) } else { self.store.read(read).await }
        }
        .boxed()
    }
    fn fetch<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.store.fetch(ids)
    }
    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>> {
        async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let _passed = self.gate.acquire().await;
            self.store.count(filters, access, at_least, now).await
        }
        .boxed()
    }
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        self.store.now()
    }
    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.store.sweep_expired(now, max)
    }
    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.store.remove(filter, max)
    }

    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.store.vanish(vanish, max)
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}

pub(super) struct Scene {
    pub(super) store: Arc<Slow>,
    pub(super) log: Arc<Log>,
    queries: Arc<Queries>,
}

impl Scene {
    /// A relay with two notes and a gift wrap for reader 7.
    pub(super) async fn new(cached: bool) -> Self {
        Self::before(cached.then(|| Arc::new(NoLayer) as _)).await
    }

    /// The same with a cache in front of `layer`.
    pub(super) async fn before(layer: Option<Arc<dyn SharedLayer>>) -> Self {
        let store = MemoryStore::new();
        let head = store.head().await.unwrap();
        let metrics = Arc::new(Metrics::detached());
        let cache = layer.map(|layer| Cache::new(1 << 20, layer, metrics.clone()));
        let log = Log::with_cache(head, RING_BYTES, cache, metrics.clone());
        let store = Arc::new(Slow { store, reads: 0.into(), gate: Semaphore::new(0), broken: AtomicBool::new(false) });
        let scene = Self { queries: Queries::new(store.clone(), log.clone(), metrics), store, log };
        scene.publish(1, &[], 1).await;
        scene.publish(1, &[], 2).await;
        scene.publish(1_059, &[vec!["p".to_owned(), reader(7).to_hex()]], 3).await;
        scene
    }

    /// The same after a restart: ring and cache are empty.
    pub(super) fn restarted(self) -> Self {
        let metrics = Arc::new(Metrics::detached());
        let log = Log::with_cache(self.log.head(), 1 << 20, self.log.cache().cloned(), metrics.clone());
        Self { queries: Queries::new(self.store.clone(), log.clone(), metrics), log, store: self.store }
    }

    pub(super) async fn publish(&self, kind: u16, tags: &[Vec<String>], second: Timestamp) -> EventId {
        let event = Event::build(reader(1), second, Kind(kind), tags, "", |_| [0; 64]);
        let id = event.id();
        let appended = self.store.append(vec![Verified::vouch(Arc::new(event))], now()).await.unwrap();
        let entry = LogEntry::new(appended.head.position, appended.changes);
        self.log.apply(&entry).unwrap();
        id
    }

    /// Removes, as the operator does, what a filter selects.
    pub(super) async fn remove(&self, filter: &Filter) {
        let appended = self.store.store.remove(filter, 100).await.unwrap();
        self.log.apply(&LogEntry::new(appended.head.position, appended.changes)).unwrap();
    }

    /// How many rows a reader gets.
    pub(super) async fn ask(&self, filter: &Filter, access: &Access) -> Result<usize, QueryError> {
        let (snapshots, _) = self
            .queries
            .settle(std::slice::from_ref(filter), access, &QueryMemory::unbounded(1, LIMITS), LIMITS)
            .await?;
        Ok(snapshots.iter().map(|snapshot| snapshot.rows.len()).sum())
    }

    pub(super) async fn count(&self, filter: &Filter, access: &Access) -> u64 {
        self.queries.count(std::slice::from_ref(filter), access, LIMITS).await.unwrap()
    }

    pub(super) fn open(&self) {
        self.store.gate.add_permits(1_000);
    }

    pub(super) fn reads(&self) -> usize {
        self.store.reads.load(Ordering::SeqCst)
    }
}

pub(super) fn reader(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

pub(super) fn authenticated(number: u8) -> Access {
    Access { authenticated: [reader(number)].into_iter().collect(), ..Access::default() }
}

pub(super) fn notes() -> Filter {
    Filter { kinds: Some([Kind(1)].into()), ..Filter::default() }
}

pub(super) fn by_id(ids: &[EventId]) -> Filter {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    Filter { ids: Some(ids.into()), ..Filter::default() }
}

/// A thousand clients ask the same at once: their answers, and how many reads the store made.
async fn stampede(scene: &Scene) -> (Vec<Result<usize, QueryError>>, usize) {
    let filter = notes();
    let (nobody, before) = (Access::default(), scene.reads());
    let all = join_all((0..1_000).map(|_| scene.ask(&filter, &nobody)));
    let opened = async { scene.open() };
    let (answers, ()) = futures_util::future::join(all, opened).await;
    (answers, scene.reads() - before)
}

#[tokio::test]
async fn a_stampede_makes_one_read() {
    let scene = Scene::new(true).await;
    let (answers, reads) = stampede(&scene).await;
    assert_eq!((answers.iter().filter(|answer| matches!(answer, Ok(2))).count(), reads), (1_000, 1));
    assert_eq!(stampede(&scene).await.1, 0, "it is kept");
    scene.publish(1, &[], 4).await;
    let (answers, reads) = stampede(&scene).await;
    assert_eq!((answers.iter().filter(|answer| matches!(answer, Ok(3))).count(), reads), (1_000, 0));
}

#[tokio::test]
async fn a_thousand_counts_make_one_and_what_comes_and_goes_is_counted_here() {
    let scene = Scene::new(true).await;
    let (filter, nobody) = (notes(), Access::default());
    let all = join_all((0..1_000).map(|_| scene.count(&filter, &nobody)));
    let opened = async { scene.open() };
    let (counts, ()) = futures_util::future::join(all, opened).await;
    assert_eq!((counts, scene.reads()), (vec![2; 1_000], 1));
    let id = scene.publish(1, &[], 4).await;
    scene.publish(7, &[], 5).await;
    assert_eq!((scene.count(&filter, &nobody).await, scene.reads()), (3, 1));
    scene.remove(&by_id(&[id])).await;
    assert_eq!((scene.count(&filter, &nobody).await, scene.reads()), (2, 1));

    // The order of filters and repeated filters make no difference to the key; a COUNT ignores limits.
    let others = Filter { kinds: Some([Kind(7)].into()), limit: Some(1), ..Filter::default() };
    for (filters, reads) in [([&filter, &others, &others], 2), ([&others, &filter, &filter], 2)] {
        let filters = filters.map(Clone::clone);
        let counted = scene.queries.count(&filters, &nobody, LIMITS).await.unwrap();
        assert_eq!((counted, scene.reads()), (3, reads));
    }
}

#[tokio::test]
async fn a_count_is_forgotten_when_the_first_of_what_it_counts_expires() {
    let scene = Scene::new(true).await;
    scene.open();
    let nobody = Access::default();
    let soon = vec!["expiration".to_owned(), (now() + 2).to_string()];
    scene.publish(1, &[soon], 4).await;
    assert_eq!((scene.count(&notes(), &nobody).await, scene.reads()), (3, 1));
    deploy::until("it to expire", deploy::STEP_TIMEOUT, async || match scene.count(&notes(), &nobody).await {
        2 => Ok(()),
        count => Err(count.to_string()),
    })
    .await
    .unwrap();
    assert_eq!(scene.reads(), 2, "nothing was removed: it was counted again");
}

#[tokio::test]
async fn an_event_is_read_once_whatever_is_asked_for_with_it() {
    let scene = Scene::new(true).await;
    scene.open();
    let nobody = Access::default();
    let mut ids = Vec::new();
    for second in 10..15 {
        ids.push(scene.publish(1, &[], second).await);
    }

    // The ring has the new events; it cannot say that an unknown id is not stored.
    assert_eq!((scene.ask(&by_id(&ids), &nobody).await.unwrap(), scene.reads()), (5, 0));
    let unknown = EventId::from_bytes([9; 32]);
    assert_eq!((scene.ask(&by_id(&[ids[0], unknown]), &nobody).await.unwrap(), scene.reads()), (1, 1));
    let scene = scene.restarted();
    for (asked, found, reads) in [
        (&[ids[0], ids[1], unknown][..], 2, 2),
        (&[ids[1], ids[0]], 2, 2),
        (&[ids[0], unknown], 1, 2),
        (&[ids[1], ids[2], ids[3]], 3, 3),
        (&[ids[2]], 1, 3),
        (&[ids[3], ids[2], ids[1], unknown], 3, 3),
    ] {
        assert_eq!((scene.ask(&by_id(asked), &nobody).await.unwrap(), scene.reads()), (found, reads), "{asked:?}");
    }

    // Also with a limit below the number of ids.
    let newest = Filter { limit: Some(1), ..by_id(&ids[1..4]) };
    assert_eq!((scene.ask(&newest, &nobody).await.unwrap(), scene.reads()), (1, 3));
    scene.remove(&by_id(&[ids[2]])).await;
    assert_eq!((scene.ask(&by_id(&ids[1..4]), &nobody).await.unwrap(), scene.reads()), (2, 3));
    // A filter of many ids is one query, and is read once.
    let many: Vec<_> = (100..200).map(|n| EventId::from_bytes([n; 32])).chain(ids[3..5].iter().copied()).collect();
    for _ in 0..2 {
        assert_eq!((scene.ask(&by_id(&many), &nobody).await.unwrap(), scene.reads()), (2, 4));
    }
    // A purge names several ids at once, too.
    let Some(cache) = scene.log.cache() else { panic!("there is a cache") };
    assert_eq!(cache.purge(&Purge::Filter(by_id(&[ids[0], unknown, EventId::from_bytes([8; 32])]))), 2);
}

/// More notes with dates in the future than an entry has room for, where clients ask with `until` = now.
#[tokio::test]
async fn what_is_dated_ahead_does_not_make_everybody_read() {
    let (scene, nobody, now) = (Scene::new(true).await, Access::default(), now());
    scene.open();
    for n in 0..40 {
        scene.publish(1, &[], now + 600 + n).await;
        scene.publish(1, &[], 1_000 + n).await;
    }
    let filter = Filter { until: Some(now), ..notes() };
    for _ in 0..2 {
        let answers = join_all((0..100).map(|_| scene.ask(&filter, &nobody))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(20))));
        assert_eq!(scene.reads(), 2, "what there is now, and what is not ahead");
    }
}

/// A small entry with one row in the future: a query for more rows reads a larger entry, once.
#[tokio::test]
async fn one_that_is_dated_ahead_changes_nothing() {
    let (scene, nobody, now) = (Scene::new(true).await, Access::default(), now());
    scene.open();
    scene.publish(1, &[], now + 600).await;
    for n in 0..40 {
        scene.publish(1, &[], 1_000 + n).await;
    }
    let asked = async |limit, until| scene.ask(&Filter { until, limit: Some(limit), ..notes() }, &nobody).await;
    assert!(matches!(asked(2, None).await, Ok(2)));
    for second in 0..5 {
        assert!(matches!(asked(20, Some(now + second)).await, Ok(20)));
        assert_eq!(scene.reads(), 2);
    }
}

#[tokio::test]
async fn control_without_the_cache_everybody_reads() {
    assert_eq!(stampede(&Scene::new(false).await).await.1, 1_000);
}

#[tokio::test]
async fn a_read_that_fails_fails_for_all_who_wait_and_for_nobody_after_them() {
    let scene = Scene::new(true).await;
    scene.store.broken.store(true, Ordering::SeqCst);
    let (answers, reads) = stampede(&scene).await;
    let timeout = |answer: &&Result<usize, QueryError>| matches!(answer, Err(QueryError::Store(cause)) if matches!(**cause, StoreError::Timeout));
    assert_eq!((answers.iter().filter(timeout).count(), reads), (1_000, 1));
    scene.store.broken.store(false, Ordering::SeqCst);
    assert!(matches!(scene.ask(&notes(), &Access::default()).await, Ok(2)));
}

#[tokio::test]
async fn when_the_one_who_reads_goes_away_another_one_reads() {
    let scene = Scene::new(true).await;
    let (filter, nobody) = (notes(), Access::default());
    let mut leader = Box::pin(scene.ask(&filter, &nobody));
    assert!((&mut leader).now_or_never().is_none());
    let mut follower = Box::pin(scene.ask(&filter, &nobody));
    assert!((&mut follower).now_or_never().is_none());
    assert_eq!(scene.reads(), 1);
    drop(leader);
    scene.open();
    assert!(matches!(follower.await, Ok(2)));
    assert_eq!(scene.reads(), 2);
}
