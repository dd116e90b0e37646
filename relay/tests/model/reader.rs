//! One client's subscription, as its connection would serve it, and what it saw.

use super::database::{Database, author};
use super::oracle::{Transcript, check};
use crate::log::Log;
use crate::memory::ClientMemory;
use crate::outbox::{Item, Outbox, OutboxLimits, Subscription};
use crate::query::{Queries, QueryLimits};
use crate::types::{Access, EventId, Filter, Kind, Position, SubscriptionId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

pub(crate) struct ModelReader {
    pub(crate) instance: usize,
    subscription: Arc<Subscription>,
    transcript: Transcript,
    query: Option<BoxFuture<'static, ()>>,
    eose: bool,
    /// The relay has said that something may be missing; everything before holds all the same.
    closed: bool,
    /// Events whose removal its instance had applied when a failover cut that off. The reader may not have got them,
    /// and does not get them if the removal does not come again (decision 0008, Price).
    pub(crate) unremoved: HashSet<EventId>,
}

const LIMITS: QueryLimits = QueryLimits {
    default_limit: 1_000,
    max_limit: 1_000,
    eose_hints: false,
    boundary_overrun: 0,
    max_text_bytes: 1 << 20,
    head_timeout: Duration::from_secs(3_600),
};

impl ModelReader {
    /// Starts the query. `must_see` gives the position that the answer must include.
    pub(crate) fn open(
        rng: &mut StdRng,
        instance: usize,
        queries: &Arc<Queries>,
        must_see: impl Fn(&[Filter]) -> Position,
        limited: bool,
    ) -> Self {
        let filter = |rng: &mut StdRng| Filter {
            authors: rng.random_bool(0.4).then(|| [author(rng.random_range(0..2))].into()),
            kinds: rng.random_bool(0.4).then(|| [Kind([1, 5, 10_000][rng.random_range(0..3)])].into()),
            limit: (limited && rng.random_bool(0.6)).then(|| rng.random_range(0..6)),
            ..Filter::default()
        };

        let filters: Arc<[Filter]> = (0..rng.random_range(1..3)).map(|_| filter(rng)).collect();
        let outbox = Outbox::new(
            OutboxLimits { max_events: rng.random_range(1..8), max_bytes: 1 << 20 },
            ClientMemory::unbounded().connect(),
        );
        let subscription = Subscription::new(SubscriptionId("s".into()), filters.clone(), outbox);
        let transcript = Transcript {
            asked_at: must_see(&filters),
            filters,
            access: Access::default(),
            limits: LIMITS,
            eose_at: Position(0),
            store_head: None,
            stored: Vec::new(),
            live: Vec::new(),
            drained_at: Position(0),
        };

        let (queries, asked) = (queries.clone(), subscription.clone());
        let query = async move { queries.answer(&asked, &Access::default(), LIMITS).await }.boxed();
        Self {
            instance,
            subscription,
            transcript,
            query: Some(query),
            eose: false,
            closed: false,
            unremoved: HashSet::new(),
        }
    }

    /// Lets the query go on.
    pub(crate) fn poll(&mut self) {
        if let Some(query) = &mut self.query
            && query.poll_unpin(&mut Context::from_waker(Waker::noop())).is_ready()
        {
            self.query = None;
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.query.is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What a connection's writer does: takes, checks at the moment of sending, replays what fell behind.
    pub(crate) fn drain(&mut self, log: &Log, most: usize) -> bool {
        let mut items = Vec::new();
        let outbox = &self.subscription.outbox;
        outbox.take(&mut items, most, usize::MAX);
        let replayed = outbox.replay(|subscription| log.catch_up(subscription));
        let any = !items.is_empty() || replayed;
        for item in items {
            match item {
                Item::Eose(..) => {
                    self.eose = true;
                    self.transcript.eose_at = log.head().position;
                }
                Item::Ended(..) => self.closed = true,
                Item::Reply(_) => {}
                Item::Stored { row, .. } => self.transcript.stored.push(row.key.id),
                Item::Live { insertion, .. } if !insertion.is_dead() => {
                    self.transcript.live.push(insertion.event.id());
                }
                Item::Live { .. } => {}
            }
        }
        any
    }

    /// Compares what was seen with the log. Where there were failovers, only as far as is possible without knowing H.
    pub(crate) fn judge(&mut self, database: &Database, failovers: bool) -> Result<(), String> {
        let log = &database.log;
        if self.closed {
            return self.each_once(database);
        }
        if !self.eose {
            return Err("no EOSE".to_owned());
        }

        self.transcript.drained_at = Position(log.len() as u64);
        if !failovers {
            return check(&self.transcript, log);
        }
        self.each_once(database)?;
        let seen: HashSet<EventId> = self.seen().collect();
        let alive = Database::alive(log, log.len() as u64);
        let filters = &self.transcript.filters;
        let wanted = alive.values().filter(|event| filters.iter().any(|filter| filter.matches(event)));
        let missing =
            wanted.map(|event| event.id()).filter(|id| !seen.contains(id) && !self.unremoved.contains(id)).count();
        if missing > 0 { Err(format!("{missing} events are missing after failovers")) } else { Ok(()) }
    }

    fn seen(&self) -> impl Iterator<Item = EventId> {
        self.transcript.stored.iter().chain(&self.transcript.live).copied()
    }

    /// Each event at most as often as it was inserted: twice only where it was removed between, and what kept it out
    /// was itself removed or cut off.
    fn each_once(&self, database: &Database) -> Result<(), String> {
        let mut times: HashMap<EventId, usize> = HashMap::new();
        self.seen().for_each(|id| *times.entry(id).or_default() += 1);
        match times.into_iter().find(|(id, times)| *times > 1 && *times > database.times_inserted(*id)) {
            Some((id, times)) => Err(format!("{id} came {times} times")),
            None => Ok(()),
        }
    }
}
