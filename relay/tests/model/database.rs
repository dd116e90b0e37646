//! The primary and its replicas: the rules of the real oracle store, a log, and every snapshot of it.

use crate::store::rules::Vanish;
use crate::store::{Appended, Counted, LogSlice, Page, Read, SharedHead, SharedLog, Store, StoreError};
use crate::store::{MemoryStore, Outcome};
use crate::types::{
    Access, Change, Epoch, Event, EventId, Filter, Head, Insertion, Kind, LogEntry, Position, PublicKey, Removal, Row,
    Timestamp, Verified, now,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::Poll;

/// The pool of events to write, made once: every write draws from it, so everything collides.
pub(crate) struct EventPool {
    pub(crate) events: Vec<Arc<Event>>,
}

pub(crate) fn author(number: u8) -> PublicKey {
    PublicKey::from_bytes([number + 1; 32])
}

impl EventPool {
    pub(crate) fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let mut events: Vec<Arc<Event>> = Vec::new();
        for salt in 0..400_u32 {
            let mut tags = vec![vec!["salt".to_owned(), salt.to_string()]];
            let kind = match rng.random_range(0..10) {
                0..6 => 1,
                6..8 => 10_000,
                _ => {
                    let targets = events.iter().filter(|_| rng.random_bool(0.02)).take(3);
                    tags.extend(targets.map(|event| vec!["e".to_owned(), event.id().to_hex()]));
                    5
                }
            };
            let (by, at) = (author(rng.random_range(0..2)), rng.random_range(1_000..1_015));
            events.push(Arc::new(Event::build(by, at, Kind(kind), &tags, "", |_| [0; 64])));
        }
        Self { events }
    }
}

/// A call that changed something, to be repeated on the primary that a failover promotes.
enum Write {
    Append(Vec<Verified>),
    Remove(Vec<EventId>),
}

/// A failover's cut: the log goes on after `base`.
struct CutOff {
    base: usize,
    /// How often each event was inserted after that.
    inserted: HashMap<EventId, usize>,
}

pub(crate) struct Database {
    store: MemoryStore,
    writes: Vec<Write>,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) head: SharedHead,
    /// The log no longer reaches back before this.
    pub(crate) trimmed: u64,
    /// The cut of each failover.
    cut_off: Vec<CutOff>,
    /// The old primary's last epoch: a replica of it may still answer.
    old: Option<(Epoch, Vec<LogEntry>)>,
    rng: StdRng,
}

impl Database {
    pub(crate) fn new(seed: u64) -> Self {
        let head = SharedHead { head: Head { epoch: Epoch(1), position: Position(0) }, ..SharedHead::default() };
        Self {
            store: MemoryStore::new(),
            writes: Vec::new(),
            log: Vec::new(),
            head,
            trimmed: 0,
            cut_off: Vec::new(),
            old: None,
            rng: StdRng::seed_from_u64(!seed),
        }
    }

    fn make(&mut self, write: Write) -> Appended {
        let mut appended = perform(&self.store, &write);
        if !appended.changes.is_empty() {
            self.writes.push(write);
            self.log.push(fresh(&LogEntry::new(appended.head.position, appended.changes.clone())));
        }
        self.head.head.position = appended.head.position;
        appended.head = self.head.head;
        appended
    }

    pub(crate) fn append(&mut self, events: Vec<Arc<Event>>) -> Appended {
        self.make(Write::Append(events.into_iter().map(Verified::vouch).collect()))
    }

    pub(crate) fn remove(&mut self, ids: Vec<EventId>) -> Appended {
        self.make(Write::Remove(ids))
    }

    /// Promotes a standby that lacks the last `lost` entries.
    pub(crate) fn fail_over(&mut self, lost: usize) {
        let base = self.log.len().saturating_sub(lost).max(self.trimmed as usize);
        let previous = self.head.head.epoch;
        self.old = Some((previous, self.log.clone()));
        let mut inserted = HashMap::new();
        for id in insertions(&self.log[base..]) {
            *inserted.entry(id).or_default() += 1;
        }

        self.log.truncate(base);
        self.cut_off.push(CutOff { base, inserted });
        self.writes.truncate(base);
        self.store = MemoryStore::new();
        for write in &self.writes {
            perform(&self.store, write);
        }
        let base = Position(base as u64);
        self.head = SharedHead { head: Head { epoch: Epoch(self.rng.random()), position: base }, base, previous };
    }

    pub(crate) fn slice(&self, after: Position) -> Result<LogSlice, StoreError> {
        if after.0 < self.trimmed {
            return Err(StoreError::OutOfReach);
        }
        let entries = self.log.iter().filter(|entry| entry.position > after).take(3).map(fresh).collect();
        Ok(LogSlice { head: self.head, entries })
    }

    /// True where a failover has cut off an insertion of this event.
    pub(crate) fn was_cut_off(&self, id: &EventId) -> bool {
        self.cut_off.iter().any(|cut_off| cut_off.inserted.contains_key(id))
    }

    /// How often a reader may have been sent this event: as often as it was inserted. An insertion that was cut off and
    /// came again counts once. One that did not come again, since it was refused then, has been delivered all the same.
    pub(crate) fn times_inserted(&self, id: EventId) -> usize {
        let times = |log: &[LogEntry]| insertions(log).filter(|inserted| *inserted == id).count();
        let not_again = |cut_off: &CutOff| {
            let before = cut_off.inserted.get(&id).copied().unwrap_or_default();
            before.saturating_sub(times(self.log.get(cut_off.base..).unwrap_or_default()))
        };
        times(&self.log) + self.cut_off.iter().map(not_again).max().unwrap_or_default()
    }

    /// The events as of a position of a log.
    pub(crate) fn alive(log: &[LogEntry], position: u64) -> HashMap<EventId, Arc<Event>> {
        let mut alive = HashMap::new();
        for change in log.iter().take(position as usize).flat_map(|entry| entry.changes.iter()) {
            match change {
                Change::Inserted(insertion) => drop(alive.insert(insertion.event.id(), insertion.event.clone())),
                Change::Removed(removal) => drop(alive.remove(&removal.id())),
            }
        }
        alive
    }

    /// True when the rules keep this event out of the present database.
    pub(crate) fn refuses(&self, id: EventId, pool: &[Arc<Event>]) -> bool {
        let event = pool.iter().find(|event| event.id() == id).unwrap().clone();
        let outcome = self.store.append(vec![Verified::vouch(event)], 0).now_or_never().unwrap().unwrap().outcomes[0];
        matches!(outcome, Outcome::Superseded | Outcome::Deleted)
    }

    /// One snapshot: of a replica that lags by some entries, or of one that still follows the old primary.
    fn page(&mut self, read: &Read<'_>) -> Page {
        let lag = self.rng.random_range(0..6);
        let stray = self.rng.random_bool(0.2);
        let (epoch, log) = match &self.old {
            Some((epoch, log)) if stray => (*epoch, log),
            _ => (self.head.head.epoch, &self.log),
        };
        let last = log.len() as u64;
        let position = last.saturating_sub(lag).max(read.at_least.0).min(last);
        let alive = Self::alive(log, position);
        let mut rows: Vec<Row> =
            alive.values().filter(|event| read.filter.matches(event)).map(|event| Row::from(&**event)).collect();
        rows.sort_by_key(|row| row.key.order());
        let complete = rows.len() <= read.limit;
        rows.truncate(read.limit);
        Page { rows, rest: Vec::new(), head: Head { epoch, position: Position(position) }, complete }
    }
}

fn insertions(log: &[LogEntry]) -> impl Iterator<Item = EventId> {
    log.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
        Change::Inserted(insertion) => Some(insertion.event.id()),
        Change::Removed(_) => None,
    })
}

fn perform(store: &MemoryStore, write: &Write) -> Appended {
    let done = match write {
        Write::Append(batch) => store.append(batch.clone(), 0).now_or_never(),
        Write::Remove(ids) => {
            let filter = Filter { ids: Some(ids.clone().into()), ..Filter::default() };
            store.remove(&filter, ids.len()).now_or_never()
        }
    };
    done.unwrap().unwrap()
}

/// The same entry for another instance: each has its own marks of dead events.
pub(crate) fn fresh(entry: &LogEntry) -> LogEntry {
    let changes = entry.changes.iter().map(|change| match change {
        Change::Inserted(insertion) => Change::Inserted(Insertion::new(insertion.event.clone())),
        Change::Removed(removal) => Change::Removed(Removal { event: removal.event.clone(), cause: removal.cause }),
    });
    LogEntry { changes: changes.collect(), ..entry.clone() }
}

/// The events of an answer that clients were told are stored.
pub(crate) fn stored(events: &[Arc<Event>], outcomes: &[Outcome]) -> HashSet<EventId> {
    let told = events.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Stored);
    told.map(|(event, _)| event.id()).collect()
}

/// The database as one instance reaches it: every call takes a while.
pub(crate) struct DatabaseClient(pub(crate) Arc<Mutex<Database>>);

impl DatabaseClient {
    fn later<'a, T: Send>(
        &'a self,
        call: impl FnOnce(&mut Database) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        async move {
            once().await;
            let result = call(&mut self.0.lock());
            once().await;
            Ok(result)
        }
        .boxed()
    }
}

/// Gives the schedule a chance to do something else. It wakes, since what drives several reads polls the woken ones
/// only.
async fn once() {
    let mut waited = false;
    let turn = std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    });
    turn.await;
}

impl SharedLog for DatabaseClient {
    fn shared_head(&self) -> BoxFuture<'_, Result<SharedHead, StoreError>> {
        self.later(|database| database.head)
    }
    fn entries(&self, after: Position, _: usize) -> BoxFuture<'_, Result<LogSlice, StoreError>> {
        async move { self.0.lock().slice(after) }.boxed()
    }
}

impl Store for DatabaseClient {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.later(|database| database.head.head)
    }
    fn known<'a>(&'a self, ids: &'a [EventId], _: Position) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        self.later(|database| (vec![false; ids.len()], database.head.head))
    }
    fn append(&self, batch: Vec<Verified>, _: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.later(|database| database.make(Write::Append(batch)))
    }
    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.later(|database| database.page(read))
    }
    fn fetch<'a>(&'a self, _: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.later(|_| Vec::new())
    }
    fn count<'a>(
        &'a self,
        _: &'a [Filter],
        _: &'a Access,
        _: Position,
        _: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>> {
        self.later(|database| Counted { head: database.head.head, ..Counted::default() })
    }
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        async { Ok(now()) }.boxed()
    }
    fn sweep_expired(&self, _: Timestamp, _: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.later(|database| database.append(Vec::new()))
    }
    fn remove<'a>(&'a self, filter: &'a Filter, _: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.later(|database| database.remove(filter.ids.as_deref().unwrap_or_default().to_vec()))
    }

    fn vanish<'a>(&'a self, _: &'a Vanish, _: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        async { Err(StoreError::Closed) }.boxed()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
