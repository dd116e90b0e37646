//! A database with a history, a log that follows it at its own pace, and queries under way. The seed decides what
//! happens next.

use super::Tally;
use super::database::{Alive, Database, Reached, distinct, select};
use super::pool::{Pool, author};
use crate::cache::{Cache, NoLayer, only_few_ids};
use crate::log::Log;
use crate::query::held::QueryMemory;
use crate::query::page::{Candidate, PageSnapshot};
use crate::query::{Queries, QueryError, QueryLimits};
use crate::store::SharedHead;
use crate::telemetry::Metrics;
use crate::types::{
    Access, Change, Epoch, Event, EventId, Filter, Head, Insertion, Kind, KindClass, LogEntry, Position, PrivateKinds,
    Removal, RemovalCause, Row, Timestamp, now,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How many entries back the database can still be read.
const HISTORY: usize = 64;
const LIMITS: QueryLimits = QueryLimits {
    default_limit: 20,
    max_limit: 20,
    eose_hints: true,
    boundary_overrun: 5,
    max_text_bytes: 1 << 20,
    head_timeout: Duration::from_secs(3_600),
};

/// What a query asks for.
#[derive(Debug, Clone)]
enum Question {
    Rows(Filter),
    Count(Vec<Filter>),
}

/// What a query has answered.
enum QuestionAnswer {
    Rows(PageSnapshot, Head),
    Count(u64),
}

/// A query under way.
struct PendingQuestion {
    question: Question,
    access: Access,
    at: Timestamp,
    answer: BoxFuture<'static, Result<QuestionAnswer, QueryError>>,
}

impl PendingQuestion {
    /// All rows that the query selects. The oracle: simple enough to be right at sight.
    fn rows(&self, alive: &[Arc<Event>], now: Timestamp) -> Vec<Row> {
        match &self.question {
            Question::Rows(filter) => select(alive, filter, Some(&self.access), now),
            Question::Count(filters) => distinct(alive, filters, &self.access, now),
        }
    }
}

pub(super) struct World<'a> {
    pool: &'a Pool,
    rng: StdRng,
    pub(super) database: Arc<Mutex<Database>>,
    queries: Arc<Queries>,
    log: Arc<Log>,
    /// What is stored as of the local head.
    local: Alive,
    /// Events in `local` that the log has left out, since their entry was read late: a later entry removes them.
    left_out: Vec<EventId>,
    /// A failover that the log has not followed yet.
    failover: Option<SharedHead>,
    pending: Vec<PendingQuestion>,
    /// Reactions are for their author alone in every second world.
    private_kinds: PrivateKinds,
    pub(super) tally: Tally,
}

impl<'a> World<'a> {
    pub(super) fn new(pool: &'a Pool, seed: u64, cached: bool) -> Self {
        let metrics = Arc::new(Metrics::detached());
        let mut rng = StdRng::seed_from_u64(seed);
        // A small cache, so that it must evict; and a small ring, so that it does not reach back far.
        let cache =
            cached.then(|| Cache::new(rng.random_range(500_000..5_000_000), Arc::new(NoLayer), metrics.clone()));
        let head = Head { epoch: Epoch(1), position: Position(1) };
        let log = Log::with_cache(head, rng.random_range(8_000..60_000), cache, metrics.clone());
        let begin = LogEntry::new(head.position, Vec::<Change>::new());
        let database = Arc::new(Mutex::new(Database {
            epoch: head.epoch,
            first: 1,
            states: [(begin, Alive::default())].into(),
            reads: 0,
            rng: StdRng::seed_from_u64(!seed),
        }));

        let queries = Queries::new(Arc::new(Reached(database.clone())), log.clone(), metrics);
        let (local, left_out) = (Alive::default(), Vec::new());
        let author_only = if seed.is_multiple_of(2) { vec![Kind(7)] } else { Vec::new() };
        Self {
            pool,
            rng,
            database,
            queries,
            log,
            local,
            left_out,
            failover: None,
            pending: Vec::new(),
            private_kinds: PrivateKinds::default().with_author_only(author_only),
            tally: Tally::default(),
        }
    }

    pub(super) fn step(&mut self) {
        match self.rng.random_range(0..1_000) {
            0..150 => self.write(),
            150..170 => self.remove_many(),
            170..400 => self.follow(),
            400..640 if self.pending.len() < 8 => self.ask(),
            640..642 if self.failover.is_none() => self.fail_over(),
            _ => self.poll(),
        }
    }

    fn write(&mut self) {
        let mut database = self.database.lock();
        let (last, alive) = database.states.back().unwrap().clone();
        let came = last.changes.iter().find_map(|change| match change {
            Change::Inserted(insertion) => Some(&insertion.event),
            Change::Removed(_) => None,
        });
        let mut changes = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            // Now and then an event that has just come is removed again.
            let event = came.filter(|_| self.rng.random_bool(0.1));
            let event = event.unwrap_or_else(|| self.pool.events.choose(&mut self.rng).unwrap()).clone();
            let concerns = |change: &Change, id: EventId| match change {
                Change::Inserted(insertion) => insertion.event.id() == id,
                Change::Removed(removal) => removal.id() == id,
            };
            if changes.iter().any(|change| concerns(change, event.id())) {
                continue;
            }
            let removed = |event: &Arc<Event>, cause| Change::Removed(Removal { event: event.clone(), cause });
            if alive.iter().any(|stored| stored.id() == event.id()) {
                changes.push(removed(&event, RemovalCause::Deleted));
                continue;
            }
            if event.kind().class() == KindClass::Replaceable {
                let same = |stored: &&Arc<Event>| stored.kind() == event.kind() && stored.pubkey() == event.pubkey();
                for stored in alive.iter().filter(same) {
                    // One entry must not remove an event twice.
                    if !changes.iter().any(|change| concerns(change, stored.id())) {
                        changes.push(removed(stored, RemovalCause::Replaced));
                    }
                }
            }
            changes.push(Change::Inserted(Insertion::new(event)));
        }

        if !changes.is_empty() {
            database.commit(changes);
        }
    }

    /// Removes what has expired, or one author's events of a kind, or half of everything.
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

    /// The log applies the next entry, or follows the failover where it has come that far.
    fn follow(&mut self) {
        let mut database = self.database.lock();
        let local = self.log.head().position.0;
        let up_to = self.failover.map_or(database.last(), |to| to.base.0);
        if local < up_to {
            let (mut entry, alive) = database.at(local + 1).unwrap().clone();
            self.left_out.retain(|id| alive.iter().any(|event| event.id() == *id));
            if self.rng.random_bool(0.1) {
                let now = &database.states.back().unwrap().1;
                self.left_out.extend(read_late(&mut entry, now));
            }
            self.log.apply(&entry).unwrap();
            self.local = alive;
        } else if let Some(to) = self.failover.take() {
            if self.rng.random_bool(0.8) {
                self.log.switch_epoch(to);
                self.local = database.at(to.base.0).unwrap().1.clone();
            } else {
                let head = Head { position: Position(database.last()), ..to.head };
                self.log.restart(SharedHead { head, ..to });
                self.left_out.clear();
                self.local = database.states.back().unwrap().1.clone();
            }
        }

        let keep_from = self.log.head().position.0.min(up_to).saturating_sub(HISTORY as u64);
        while database.first < keep_from {
            database.states.pop_front();
            database.first += 1;
        }
    }

    /// Promotes a standby that lacks the last few entries.
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
        let mut access = Access { private_kinds: self.private_kinds.clone(), ..Access::default() };
        if self.rng.random_bool(0.2) {
            access.authenticated.push(author(self.rng.random_range(0..3)));
        }
        let question = match self.rng.random_bool(0.3) {
            true => Question::Count(self.pool.counts.choose(&mut self.rng).unwrap().clone()),
            false => Question::Rows(self.filter()),
        };

        let (queries, wanted, reader) = (self.queries.clone(), question.clone(), access.clone());
        let answer = async move {
            match wanted {
                Question::Count(filters) => Ok(QuestionAnswer::Count(queries.count(&filters, &reader, LIMITS).await?)),
                Question::Rows(filter) => {
                    let (mut snapshots, head) =
                        queries.settle(&[filter], &reader, &QueryMemory::unbounded(1, LIMITS), LIMITS).await?;
                    Ok(QuestionAnswer::Rows(snapshots.remove(0), head))
                }
            }
        };

        self.pending.push(PendingQuestion { question, access, at: now(), answer: answer.boxed() });
        self.tally.asked += 1;
    }

    fn filter(&mut self) -> Filter {
        let filter = self.pool.filters.choose(&mut self.rng).unwrap().clone();
        match self.rng.random_range(0..8) {
            0 => Filter { limit: Some(self.rng.random_range(1..20)), ..filter },
            1 => Filter { since: Some(self.pool.start - self.rng.random_range(0..70)), ..filter },
            _ => filter,
        }
    }

    /// Compares a page and what it says of the rest with all rows that match.
    fn is_right(&mut self, mut snapshot: PageSnapshot, filter: &Filter, expected: &[Row]) -> bool {
        let wanted = LIMITS.rows_of(filter);
        let cut = snapshot.cut(wanted, LIMITS.overrun_of(wanted));
        let here = |(candidate, row): (&Candidate, &Row)| matches!(candidate, Candidate::Here(here) if here == row);
        let found = snapshot.rows.len();
        let same = found <= expected.len() && snapshot.rows.iter().zip(expected).all(here);

        // To the limit, or to the end of the second there.
        let second = expected.get(wanted - 1).map(|row| row.key.created_at);
        let whole = second.map(|second| expected.partition_point(|row| row.key.created_at >= second));
        let is_long_enough = found == wanted.min(expected.len()) || whole == Some(found);

        let next = cut.next.is_none_or(|next| expected.get(found).is_some_and(|row| row.key == next));
        let all = !cut.is_all || found == expected.len();
        self.tally.finish += usize::from(cut.is_all);
        self.tally.more += usize::from(cut.next.is_some());
        self.tally.whole_seconds += usize::from(found > wanted);
        same && is_long_enough && next && all
    }

    /// Polls one of the queries. Where it ends, compares its answer with what is stored as of the local head.
    fn poll(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let which = self.rng.random_range(0..self.pending.len());
        let context = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = self.pending[which].answer.poll_unpin(context) else {
            // Sometimes a client goes away in the middle.
            if self.rng.random_bool(0.01) {
                self.pending.swap_remove(which);
            }
            return;
        };

        let asked = self.pending.swap_remove(which);
        let Ok(answer) = answer else {
            self.tally.given_up += 1;
            return;
        };
        let expected = asked.rows(&self.local, asked.at);
        let remembered: Vec<_> =
            self.local.iter().filter(|event| !self.left_out.contains(&event.id())).cloned().collect();
        if expected != asked.rows(&remembered, asked.at) || expected != asked.rows(&self.local, now() + 1) {
            // A row expires this second, or the log has left it out: the answer may be right with it and without it.
            self.tally.unclear += 1;
            return;
        }

        self.tally.answered += 1;
        let right = match (answer, &asked.question) {
            (QuestionAnswer::Rows(snapshot, head), Question::Rows(filter)) => {
                assert_eq!(head, self.log.head(), "nothing has come between");
                self.tally.by_id += usize::from(only_few_ids(filter).is_some());
                self.is_right(snapshot, filter, &expected)
            }
            (QuestionAnswer::Count(number), _) => {
                self.tally.counted += 1;
                number == expected.len() as u64
            }
            (QuestionAnswer::Rows(..), Question::Count(_)) => false,
        };

        if !right {
            println!("wrong: {:?} for {:?}", asked.question, asked.access.authenticated);
            self.tally.wrong += 1;
        }
    }
}

/// Makes `entry` one that was read late, when the store had only `alive`: removes other insertions, and returns them.
fn read_late(entry: &mut LogEntry, alive: &[Arc<Event>]) -> Vec<EventId> {
    let (mut kept, mut gone) = (Vec::new(), Vec::new());
    let is_there = |id| alive.iter().any(|event| event.id() == id);
    for change in entry.changes.iter() {
        match change {
            Change::Inserted(insertion) if !is_there(insertion.event.id()) => gone.push(insertion.event.id()),
            change => kept.push(change.clone()),
        }
    }
    entry.whole = gone.is_empty();
    entry.changes = kept.into();
    gone
}
