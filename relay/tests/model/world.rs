//! One schedule: the seed draws who does what next.

use super::database::{Database, DatabaseClient, EventPool, fresh, stored};
use super::reader::ModelReader;
use crate::cache::{Cache, NoLayer};
use crate::ingest::{FollowerInput, resubmission};
use crate::log::{FollowTimings, Log, Sequencer, Step};
use crate::query::Queries;
use crate::store::{LogSlice, SharedHead, StoreError};
use crate::telemetry::{EntrySource, Metrics};
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, Epoch, Event, EventId, Filter, Head, Kind, KindClass, LogEntry, Position, RemovalCause};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const STEPS: usize = 160;
/// Far more rounds than it takes to bring every instance to the head.
const LAST_ROUNDS: usize = 400;
const WITH_BUS: FollowTimings =
    FollowTimings { hole: Duration::from_millis(5), poll: Duration::from_millis(40), retry: Duration::from_millis(10) };
const WITHOUT_BUS: FollowTimings = FollowTimings { hole: Duration::ZERO, ..WITH_BUS };

/// The follower's step under way. An answer may have been given long before it arrives.
enum FollowerStep {
    Head(Option<SharedHead>),
    LogSlice(Position, Option<Result<LogSlice, StoreError>>),
}

struct Instance {
    log: Arc<Log>,
    sequencer: Sequencer,
    queries: Arc<Queries>,
    /// From the own writer, in order.
    own: VecDeque<(Epoch, LogEntry)>,
    /// From the bus, in no order.
    bus: Vec<(Epoch, LogEntry)>,
    asked: Option<FollowerStep>,
    /// The local head before the step.
    followed: Head,
    resubmitting: Vec<BoxFuture<'static, ()>>,
    /// From what is submitted again.
    again: (mpsc::Sender<FollowerInput>, mpsc::Receiver<FollowerInput>),
}

pub(crate) struct ModelWorld<'a> {
    pool: &'a EventPool,
    rng: StdRng,
    now: Instant,
    patience: FollowTimings,
    database: Arc<Mutex<Database>>,
    instances: Vec<Instance>,
    readers: Vec<ModelReader>,
    failovers: usize,
    had_failover: bool,
    /// A failover came before every instance had followed the one before, or cut off more than some ring holds: then
    /// what only those instances knew may be lost.
    missed_one: bool,
    /// Events that clients were told are stored.
    promised: HashSet<EventId>,
    /// Events that the operator has removed: nobody publishes them again.
    removed: HashSet<EventId>,
}

impl<'a> ModelWorld<'a> {
    pub(crate) fn new(pool: &'a EventPool, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let database = Arc::new(Mutex::new(Database::new(seed)));
        let metrics = Arc::new(Metrics::detached());
        let ring_bytes = if rng.random_bool(0.2) { 25_000 } else { 1 << 20 };
        let cached = !(seed / 2).is_multiple_of(4);
        let instance = |_| {
            let cache = cached.then(|| Cache::new(1 << 20, Arc::new(NoLayer), metrics.clone()));
            let log = Log::with_cache(database.lock().head.head, ring_bytes, cache, metrics.clone());
            let reached = Arc::new(DatabaseClient(database.clone()));
            Instance {
                sequencer: Sequencer::new(log.clone(), metrics.clone(), now),
                queries: Queries::clustered(reached.clone(), log.clone(), reached, metrics.clone()),
                followed: log.head(),
                log,
                own: VecDeque::new(),
                bus: Vec::new(),
                asked: None,
                resubmitting: Vec::new(),
                again: mpsc::channel(1_000),
            }
        };

        Self {
            instances: (0..rng.random_range(2..4)).map(instance).collect(),
            patience: if rng.random_bool(0.2) { WITHOUT_BUS } else { WITH_BUS },
            failovers: if seed % 2 == 1 { rng.random_range(1..3) } else { 0 },
            pool,
            rng,
            now,
            database,
            readers: Vec::new(),
            had_failover: false,
            missed_one: false,
            promised: HashSet::new(),
            removed: HashSet::new(),
        }
    }

    pub(crate) fn run(mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step();
        }
        self.come_to_rest()?;
        {
            let database = self.database.lock();
            for reader in &mut self.readers {
                reader.judge(&database, self.had_failover)?;
            }
        }
        self.promises_are_kept()
    }

    fn step(&mut self) {
        let at = self.rng.random_range(0..self.instances.len());
        match self.rng.random_range(0..100) {
            0..12 => self.write(at),
            12..14 => self.remove(at),
            14..30 => self.hear_own(at),
            30..48 => self.hear_bus(at),
            48..64 => self.follow(at),
            64..68 if self.readers.len() < 8 => self.ask(at),
            64..84 => self.serve(),
            84..86 if self.failovers > 0 => {
                self.failovers -= 1;
                self.had_failover = true;
                let lost = self.rng.random_range(0..5);
                let mut database = self.database.lock();
                let epoch = database.head.head.epoch;
                self.missed_one |= self.instances.iter().any(|instance| instance.log.head().epoch != epoch);
                database.fail_over(lost);
                let base = database.head.base;
                self.missed_one |= self.instances.iter().any(|instance| instance.log.floor() > base);
            }
            // A log that is trimmed while its followers are far behind, and then cut off, loses what only they knew.
            86..87 if self.failovers == 0 && !self.had_failover && self.rng.random_bool(0.1) => {
                let mut database = self.database.lock();
                database.trimmed = database.log.len() as u64;
            }
            _ => self.now += Duration::from_millis(self.rng.random_range(1..8)),
        }
    }

    /// Commits a batch; its writer gives the entry to its follower and to the bus, which loses some of it for some.
    fn write(&mut self, at: usize) {
        let count = self.rng.random_range(1..4);
        let events: Vec<_> = (0..count)
            .map(|_| self.pool.events[self.rng.random_range(0..self.pool.events.len())].clone())
            .filter(|event| !self.removed.contains(&event.id()))
            .collect();
        let appended = self.database.lock().append(events.clone());
        self.promised.extend(stored(&events, &appended.outcomes));
        self.tell(at, appended);
    }

    /// The operator removes an event.
    fn remove(&mut self, at: usize) {
        let mut database = self.database.lock();
        let alive = Database::alive(&database.log, database.log.len() as u64);
        let Some(id) = alive.keys().min().copied() else { return };
        let appended = database.remove(vec![id]);
        drop(database);
        self.removed.insert(id);
        self.tell(at, appended);
    }

    fn tell(&mut self, at: usize, appended: crate::store::Appended) {
        if !appended.changes.is_empty() {
            let entry = LogEntry::new(appended.head.position, appended.changes);
            let epoch = appended.head.epoch;
            for (other, instance) in self.instances.iter_mut().enumerate() {
                if other == at {
                    instance.own.push_back((epoch, fresh(&entry)));
                } else if self.patience.hole > Duration::ZERO && self.rng.random_bool(0.8) {
                    instance.bus.push((epoch, fresh(&entry)));
                }
            }
        }
        self.instances[at].log.acknowledge(appended.head);
    }

    fn hear_own(&mut self, at: usize) {
        let instance = &mut self.instances[at];
        while let Ok(FollowerInput::Entry(epoch, entry)) = instance.again.1.try_recv() {
            instance.own.push_back((epoch, entry));
        }
        if let Some((epoch, entry)) = instance.own.pop_front() {
            instance.sequencer.offer(EntrySource::Own, epoch, entry, self.now);
            self.resubmit(at);
        }
    }

    fn hear_bus(&mut self, at: usize) {
        let instance = &mut self.instances[at];
        if instance.bus.is_empty() {
            return;
        }
        let which = self.rng.random_range(0..instance.bus.len());
        let (epoch, entry) = match self.rng.random_bool(0.15) {
            true => (instance.bus[which].0, fresh(&instance.bus[which].1)),
            false => instance.bus.swap_remove(which),
        };
        instance.sequencer.offer(EntrySource::Bus, epoch, entry, self.now);
        self.resubmit(at);
    }

    fn follow(&mut self, at: usize) {
        let instance = &mut self.instances[at];
        let database = self.database.lock();
        match instance.asked.take() {
            Some(FollowerStep::Head(answer)) => instance.sequencer.learn(answer.unwrap_or(database.head), self.now),
            Some(FollowerStep::LogSlice(after, answer)) => match answer.unwrap_or_else(|| database.slice(after)) {
                Ok(slice) => instance.sequencer.take(slice, self.now, self.patience),
                Err(_) => instance.sequencer.out_of_reach(self.now),
            },
            None => {
                let early = self.rng.random_bool(0.5);
                instance.asked = match instance.sequencer.next(self.now, self.patience) {
                    Step::Ask => Some(FollowerStep::Head(early.then_some(database.head))),
                    Step::Read(after) => Some(FollowerStep::LogSlice(after, early.then(|| database.slice(after)))),
                    Step::Wait(_) => None,
                };
            }
        }

        drop(database);
        self.resubmit(at);
    }

    fn resubmit(&mut self, at: usize) {
        let instance = &mut self.instances[at];
        let lost = instance.sequencer.take_cut_off();
        let before = std::mem::replace(&mut instance.followed, instance.log.head());
        if before.epoch != instance.followed.epoch {
            for reader in self.readers.iter_mut().filter(|reader| reader.instance == at) {
                reader.unremoved.extend(unremoved(&lost, before.position));
            }
        }
        if !lost.is_empty() {
            let reached = Arc::new(DatabaseClient(self.database.clone()));
            instance
                .resubmitting
                .push(resubmission(reached, instance.log.clone(), lost, instance.again.0.downgrade()).boxed());
        }
        instance.resubmitting.retain_mut(|work| work.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    fn ask(&mut self, at: usize) {
        let instance = &self.instances[at];
        let (head, shared) = (instance.log.head(), self.database.lock().head.head);
        let acknowledged = instance.log.acknowledged();
        let must_see = |filters: &[Filter]| {
            let named = filters.iter().any(|filter| filter.authors.is_some());
            let elsewhere = if named { shared.position } else { Position(0) };
            head.position.max(acknowledged.position).max(elsewhere)
        };

        let reader = ModelReader::open(
            &mut self.rng,
            at,
            &instance.queries,
            must_see,
            self.failovers == 0 && !self.had_failover,
        );
        self.readers.push(reader);
    }

    fn serve(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let which = self.rng.random_range(0..self.readers.len());
        let most = self.rng.random_range(1..6);
        let reader = &mut self.readers[which];
        reader.poll();
        reader.drain(&self.instances[reader.instance].log, most);
    }

    /// Nothing more is written, and the bus is quiet: what is missing must come from the log, and soon.
    fn come_to_rest(&mut self) -> Result<(), String> {
        for round in 0.. {
            if self.is_at_rest() {
                break;
            }
            if round == LAST_ROUNDS {
                return Err(format!("{:?}: somebody never gets there", self.database.lock().head));
            }
            self.now += Duration::from_millis(5);
            for at in 0..self.instances.len() {
                self.instances[at].bus.clear();
                self.hear_own(at);
                self.follow(at);
            }

            for reader in &mut self.readers {
                reader.poll();
                reader.drain(&self.instances[reader.instance].log, usize::MAX);
            }
        }

        for reader in &mut self.readers {
            while reader.drain(&self.instances[reader.instance].log, usize::MAX) {}
        }
        Ok(())
    }

    fn is_at_rest(&self) -> bool {
        let head = self.database.lock().head.head;
        let quiet = |instance: &Instance| {
            // Without epochs, positions alone must do.
            let there = instance.log.head() == head
                || ablated(Safeguard::Epochs) && instance.log.head().position >= head.position;
            there && instance.own.is_empty() && instance.again.1.is_empty() && instance.resubmitting.is_empty()
        };
        self.instances.iter().all(quiet)
            && !self.readers.iter().any(|reader| reader.is_waiting() && !reader.is_closed())
    }

    /// Every event that a client was told is stored is there, unless another event or the operator has removed it; and
    /// what the operator has removed is gone.
    fn promises_are_kept(&self) -> Result<(), String> {
        if self.missed_one {
            return Ok(());
        }
        let database = self.database.lock();
        let log = &database.log;
        let alive = Database::alive(log, log.len() as u64);
        let by_others = |change: &Change| match change {
            Change::Removed(removal) if removal.cause != RemovalCause::Administered => Some(removal.id()),
            _ => None,
        };

        let removed: HashSet<EventId> =
            log.iter().flat_map(|entry| entry.changes.iter()).filter_map(by_others).collect();
        let gone = |id: &&EventId| !alive.contains_key(*id) && !removed.contains(*id) && !self.removed.contains(*id);
        for id in self.promised.iter().filter(gone) {
            // After a failover a competitor may have come first. Then the event is refused for good reason, whatever
            // the operator does with the competitor later.
            if !database.refuses(*id, &self.pool.events) && !self.had_a_competitor(*id) {
                return Err(format!("{id} was acknowledged and is lost"));
            }
        }

        // The operator's removals leave nothing behind that keeps an event out. Where the event's insertion was cut off
        // too, an instance that knew of the insertion but not of the removal may bring it back.
        let mut removed = self.removed.iter().filter(|id| !database.was_cut_off(id));
        match removed.find(|id| alive.contains_key(*id)) {
            Some(id) => Err(format!("{id} was removed and has come back")),
            None => Ok(()),
        }
    }

    /// True where the operator has removed a version of the same replaceable event, or a deletion of this one.
    fn had_a_competitor(&self, id: EventId) -> bool {
        let events = &self.pool.events;
        let event = events.iter().find(|event| event.id() == id).unwrap();
        let replaceable = event.kind().class() == KindClass::Replaceable;
        let same = |other: &Event| replaceable && other.kind() == event.kind() && other.pubkey() == event.pubkey();
        let deletes =
            |other: &Event| other.kind() == Kind::DELETION && other.tag_values(b'e').any(|e| e == id.to_hex());
        events.iter().any(|other| self.removed.contains(&other.id()) && (same(other) || deletes(other)))
    }
}

/// The events whose removal was applied up to `head` and is cut off.
fn unremoved(lost: &[LogEntry], head: Position) -> impl Iterator<Item = EventId> {
    let applied = lost.iter().filter(move |entry| entry.position <= head);
    applied.flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
        Change::Removed(removal) => Some(removal.id()),
        Change::Inserted(_) => None,
    })
}
