//! A database with a history, a log that follows it at its own pace, and queries under way. What happens next is drawn
//! from the seed.

use super::{Answer, Tally};
use crate::cache::{Cache, NoLayer};
use crate::log::Log;
use crate::query::page::Candidate;
use crate::query::{Queries, QueryError, QueryLimits};
use crate::store::{Appended, Page, Read, SharedHead, Store, StoreError};
use crate::telemetry::Metrics;
use crate::types::{
    Access, Change, Epoch, Event, EventId, Filter, Head, Insertion, Kind, KindClass, LogEntry, Position, PublicKey,
    Removal, RemovalCause, Row, TagFilter, Timestamp, Verified, now,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Events to write and filters to ask for, made once: everything collides.
pub(super) struct Pool {
    events: Vec<Arc<Event>>,
    filters: Vec<Filter>,
    /// The second that the events are made around.
    start: Timestamp,
}

type Alive = Arc<Vec<Arc<Event>>>;

/// How many entries back the database can still be read.
const HISTORY: usize = 64;
const LIMITS: QueryLimits =
    QueryLimits { default_limit: 20, max_limit: 20, max_text_bytes: 1 << 20, head_timeout: Duration::from_secs(3_600) };

fn author(number: u8) -> PublicKey {
    PublicKey::from_bytes([number + 1; 32])
}

impl Pool {
    pub(super) fn new(seed: u64) -> Self {
        let (mut rng, start) = (StdRng::seed_from_u64(seed), now());
        let event = |salt: u32, rng: &mut StdRng| {
            let mut tags = vec![vec!["salt".to_owned(), salt.to_string()]];
            tags.push(vec!["t".to_owned(), rng.random_range(0..3).to_string()]);
            tags.push(vec!["p".to_owned(), author(rng.random_range(0..3)).to_hex()]);
            if rng.random_bool(0.1) {
                tags.push(vec!["expiration".to_owned(), (start + rng.random_range(-2..30)).to_string()]);
            }
            let kind = Kind([1, 1, 1, 7, 10_000, 1_059][rng.random_range(0..6)]);
            let at = start - rng.random_range(-15..70);
            Arc::new(Event::build(author(rng.random_range(0..3)), at, kind, &tags, "", |_| [0; 64]))
        };
        let events: Vec<Arc<Event>> = (0..600).map(|salt| event(salt, &mut rng)).collect();
        let filter = |rng: &mut StdRng| Filter {
            ids: rng.random_bool(0.1).then(|| {
                let mut ids: Vec<EventId> = (0..3).map(|_| events[rng.random_range(0..600)].id()).collect();
                ids.sort_unstable();
                ids.dedup();
                ids.into()
            }),
            authors: rng.random_bool(0.4).then(|| [author(rng.random_range(0..3))].into()),
            kinds: rng.random_bool(0.5).then(|| [[1, 7, 10_000, 1_059].map(Kind)[rng.random_range(0..4)]].into()),
            tags: match rng.random_bool(0.3) {
                true => {
                    Box::new([TagFilter { letter: b't', values: [rng.random_range(0..3).to_string().into()].into() }])
                }
                false => Box::new([]),
            },
            since: rng.random_bool(0.3).then(|| start - rng.random_range(0..70)),
            until: rng.random_bool(0.3).then(|| start - rng.random_range(-40..40)),
            limit: rng.random_bool(0.8).then(|| rng.random_range(1..12)),
        };
        let filters = (0..80).map(|_| filter(&mut rng)).collect();
        Self { events, filters, start }
    }
}

pub(super) struct Database {
    epoch: Epoch,
    /// The position of the first of `states`; each entry leads to the state beside it.
    first: u64,
    states: VecDeque<(LogEntry, Alive)>,
    pub(super) reads: usize,
    rng: StdRng,
}

impl Database {
    fn last(&self) -> u64 {
        self.first + self.states.len() as u64 - 1
    }

    fn at(&self, position: u64) -> Option<&(LogEntry, Alive)> {
        self.states.get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    fn commit(&mut self, changes: Vec<Change>) {
        let mut alive = Vec::clone(&self.states.back().unwrap().1);
        for change in &changes {
            match change {
                Change::Inserted(insertion) => alive.push(insertion.event.clone()),
                Change::Removed(removal) => alive.retain(|event| event.id() != removal.id()),
            }
        }
        let position = Position(self.last() + 1);
        self.states.push_back((LogEntry { position, changes: changes.into() }, Arc::new(alive)));
    }

    fn page(&mut self, read: &Read<'_>) -> Page {
        self.reads += 1;
        let least = self.last().saturating_sub(6).max(self.first).max(read.at_least.0).min(self.last());
        let position = self.rng.random_range(least..=self.last());
        let alive = &self.at(position).unwrap().1;
        let mut rows = select(alive, read.filter, read.access, read.now);
        let complete = rows.len() <= read.limit;
        rows.truncate(read.limit);
        Page { rows, rest: Vec::new(), head: Head { epoch: self.epoch, position: Position(position) }, complete }
    }
}

/// What a filter selects, newest first: read this, and believe it.
pub(super) fn select(alive: &[Arc<Event>], filter: &Filter, access: Option<&Access>, now: Timestamp) -> Vec<Row> {
    let mut rows: Vec<Row> = alive
        .iter()
        .filter(|event| filter.matches(event) && !event.is_expired(now))
        .filter(|event| access.is_none_or(|access| access.may_read(event)))
        .map(|event| Row::from(&**event))
        .collect();
    rows.sort_by_key(|row| row.key.order());
    rows
}

/// The database as the queries reach it: a read takes its time before and after.
struct Reached(Arc<Mutex<Database>>);

async fn once() {
    let mut waited = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl Store for Reached {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn known<'a>(&'a self, _: &'a [EventId]) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn append(&self, _: Vec<Verified>, _: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        async move {
            once().await;
            let page = self.0.lock().page(read);
            once().await;
            Ok(page)
        }
        .boxed()
    }
    fn fetch<'a>(&'a self, _: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn count<'a>(
        &'a self,
        _: &'a [Filter],
        _: &'a Access,
        _: Position,
        _: Timestamp,
    ) -> BoxFuture<'a, Result<(u64, Head), StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn sweep_expired(&self, _: Timestamp, _: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn remove<'a>(&'a self, _: &'a Filter, _: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// A query under way.
struct Asked {
    filter: Filter,
    access: Access,
    at: Timestamp,
    answer: BoxFuture<'static, Result<Answer, QueryError>>,
}

pub(super) struct World<'a> {
    pool: &'a Pool,
    rng: StdRng,
    pub(super) database: Arc<Mutex<Database>>,
    queries: Arc<Queries>,
    log: Arc<Log>,
    /// What is stored as of the local head.
    local: Alive,
    /// A failover that the log has not followed yet.
    failover: Option<SharedHead>,
    asked: Vec<Asked>,
    pub(super) tally: Tally,
}

impl<'a> World<'a> {
    pub(super) fn new(pool: &'a Pool, seed: u64, cached: bool) -> Self {
        let metrics = Arc::new(Metrics::detached());
        let mut rng = StdRng::seed_from_u64(seed);
        // Small, so that entries must go; and a ring that does not reach back far.
        let cache =
            cached.then(|| Cache::new(rng.random_range(500_000..5_000_000), Arc::new(NoLayer), metrics.clone()));
        let head = Head { epoch: Epoch(1), position: Position(1) };
        let log = Log::with_cache(head, rng.random_range(8_000..60_000), cache, metrics.clone());
        let begin = LogEntry { position: head.position, changes: [].into() };
        let database = Arc::new(Mutex::new(Database {
            epoch: head.epoch,
            first: 1,
            states: [(begin, Alive::default())].into(),
            reads: 0,
            rng: StdRng::seed_from_u64(!seed),
        }));
        let queries = Queries::new(Arc::new(Reached(database.clone())), log.clone(), metrics);
        let local = Alive::default();
        Self { pool, rng, database, queries, log, local, failover: None, asked: Vec::new(), tally: Tally::default() }
    }

    pub(super) fn step(&mut self) {
        match self.rng.random_range(0..1_000) {
            0..150 => self.write(),
            150..170 => self.remove_many(),
            170..400 => self.follow(),
            400..640 if self.asked.len() < 8 => self.ask(),
            640..642 if self.failover.is_none() => self.fail_over(),
            _ => self.poll(),
        }
    }

    fn write(&mut self) {
        let mut database = self.database.lock();
        let alive = database.states.back().unwrap().1.clone();
        let mut changes = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let event = self.pool.events.choose(&mut self.rng).unwrap().clone();
            let is = |change: &Change| match change {
                Change::Inserted(insertion) => insertion.event.id() == event.id(),
                Change::Removed(removal) => removal.id() == event.id(),
            };
            if changes.iter().any(is) {
                continue;
            }
            let removed = |event: &Arc<Event>, cause| Change::Removed(Removal { event: event.clone(), cause });
            if alive.iter().any(|stored| stored.id() == event.id()) {
                changes.push(removed(&event, RemovalCause::Deleted));
                continue;
            }
            if event.kind().class() == KindClass::Replaceable {
                let same = |stored: &&Arc<Event>| stored.kind() == event.kind() && stored.pubkey() == event.pubkey();
                changes.extend(alive.iter().filter(same).map(|stored| removed(stored, RemovalCause::Replaced)));
            }
            changes.push(Change::Inserted(Insertion::new(event)));
        }
        if !changes.is_empty() {
            database.commit(changes);
        }
    }

    /// What has expired, or what one author has written, or half of everything.
    fn remove_many(&mut self) {
        let mut database = self.database.lock();
        let alive = database.states.back().unwrap().1.clone();
        let (way, whose, now) = (self.rng.random_range(0..10), author(self.rng.random_range(0..3)), now());
        let goes = |event: &Arc<Event>| match way {
            0..6 => event.is_expired(now),
            6..9 => event.pubkey() == whose && event.kind() == Kind(7),
            _ => event.id().as_bytes()[0].is_multiple_of(2),
        };
        let cause = if way < 6 { RemovalCause::Expired } else { RemovalCause::Administered };
        let removed = |event: &Arc<Event>| Change::Removed(Removal { event: event.clone(), cause });
        let changes: Vec<Change> = alive.iter().filter(|event| goes(event)).map(removed).collect();
        if !changes.is_empty() {
            database.commit(changes);
        }
    }

    /// The log takes the next entry, or the failover where it has come so far.
    fn follow(&mut self) {
        let mut database = self.database.lock();
        let local = self.log.head().position.0;
        let up_to = self.failover.map_or(database.last(), |to| to.base.0);
        if local < up_to {
            let (entry, alive) = database.at(local + 1).unwrap().clone();
            self.log.apply(&entry).unwrap();
            self.local = alive;
        } else if let Some(to) = self.failover.take() {
            if self.rng.random_bool(0.8) {
                self.log.leap(to);
                self.local = database.at(to.base.0).unwrap().1.clone();
            } else {
                let head = Head { position: Position(database.last()), ..to.head };
                self.log.restart(SharedHead { head, ..to });
                self.local = database.states.back().unwrap().1.clone();
            }
        }
        let keep_from = self.log.head().position.0.min(up_to).saturating_sub(HISTORY as u64);
        while database.first < keep_from {
            database.states.pop_front();
            database.first += 1;
        }
    }

    /// A standby is promoted that lacks the last few entries.
    fn fail_over(&mut self) {
        let mut database = self.database.lock();
        let lost = self.rng.random_range(0..5).min(database.states.len() - 1);
        let left = database.states.len() - lost;
        database.states.truncate(left);
        let previous = std::mem::replace(&mut database.epoch, Epoch(self.rng.random()));
        let base = Position(database.last());
        self.failover = Some(SharedHead { head: Head { epoch: database.epoch, position: base }, base, previous });
    }

    fn ask(&mut self) {
        let filter = self.pool.filters.choose(&mut self.rng).unwrap().clone();
        let filter = match self.rng.random_range(0..8) {
            0 => Filter { limit: Some(self.rng.random_range(1..20)), ..filter },
            1 => Filter { since: Some(self.pool.start - self.rng.random_range(0..70)), ..filter },
            _ => filter,
        };
        let mut access = Access::default();
        if self.rng.random_bool(0.2) {
            access.authenticated.push(author(self.rng.random_range(0..3)));
        }
        let (queries, wanted, reader) = (self.queries.clone(), filter.clone(), access.clone());
        let answer = async move {
            let (mut snapshots, head) = queries.settle(&[wanted], &reader, LIMITS).await?;
            Ok(Answer { snapshot: snapshots.remove(0), head })
        };
        self.asked.push(Asked { filter, access, at: now(), answer: answer.boxed() });
        self.tally.asked += 1;
    }

    /// One of the queries goes on; where it is answered, the answer is held against what is stored as of the local head.
    fn poll(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let which = self.rng.random_range(0..self.asked.len());
        let context = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = self.asked[which].answer.poll_unpin(context) else {
            // Sometimes a client goes away in the middle.
            if self.rng.random_bool(0.01) {
                self.asked.swap_remove(which);
            }
            return;
        };
        let asked = self.asked.swap_remove(which);
        let Ok(Answer { snapshot, head }) = answer else {
            self.tally.given_up += 1;
            return;
        };
        assert_eq!(head, self.log.head(), "nothing has come between");
        let mut expected = select(&self.local, &asked.filter, Some(&asked.access), asked.at);
        if expected != select(&self.local, &asked.filter, Some(&asked.access), now() + 1) {
            // Something of it expires these seconds: either is right.
            self.tally.expiring += 1;
            return;
        }
        let limit = asked.filter.limit.map_or(LIMITS.default_limit, |limit| limit as usize).min(LIMITS.max_limit);
        let complete = expected.len() <= limit;
        expected.truncate(limit);
        let here = |(candidate, row): (&Candidate, &Row)| matches!(candidate, Candidate::Here(here) if here == row);
        let same = snapshot.rows.len() == expected.len() && snapshot.rows.iter().zip(&expected).all(here);
        let right = same && (complete || !snapshot.complete);
        self.tally.answered += 1;
        self.tally.wrong += usize::from(!right);
    }
}
