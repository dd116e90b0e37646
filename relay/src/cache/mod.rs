//! The cache of hot filters: answers that the log keeps exact, instead of answers that a clock lets expire.
//!
//! An answer is a snapshot like any other: rows, and the head that they are exact as of. Its reader applies the log's
//! tail to it. So the cache can serve what is old, never what is wrong.
//!
//! The layer in the process registers each entry in a matcher: a change of the log touches only the entries that it
//! concerns. The layer has several shards. Each shard has its part of the bytes, and a head of its own under one lock.

mod admission;
mod answer;
mod count;
mod key;
mod layer;
mod purge;
mod query;
mod rates;
mod shard;
pub mod shared;
mod single_flight;
mod snapshot;
#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use count::{Count, Unsure};
pub use key::{CanonicalQuery, FilterKey, ReaderClass, only_few_ids};
pub use layer::{Miss, NoLayer, SharedLayer};
pub use purge::{Purge, PurgeError};
pub use query::{CacheQuery, CountQuery, HashedKey, PageSize, RowsQuery};
pub use shard::{HotEntry, ShardFacts};
pub use single_flight::{FlightFollower, FlightLeader, Join, SharedResult};
pub use snapshot::{Difference, Listed, Snapshot};

use crate::telemetry::{CacheLayer, CacheResult, Metrics};
use crate::types::{Access, EventId, Filter, Head, LogEntry, Row, Timestamp};
use parking_lot::Mutex;
use rates::Rates;
use shard::{CacheHit, KeepOutcome, Shard};
use single_flight::SingleFlight;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

/// A power of two. Each change is looked up in every shard, which costs well under a microsecond; queries for different
/// filters seldom wait for each other's lock.
const SHARDS: usize = 4;

/// How often an answer that the log has overtaken is brought up to date before the cache gives it up.
const ROUNDS: usize = 4;

/// Answers to filters that are asked again and again.
pub struct Cache {
    shards: Box<[Mutex<Shard>]>,
    /// Keys the hash, so that no client can tell which filters share a shard, a bucket or a counter.
    secret: RandomState,
    single_flight: SingleFlight,
    shared_layer: Arc<dyn SharedLayer>,
    max_bytes: usize,
    rates: Rates,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

impl Cache {
    /// A cache that keeps about `max_bytes` in the process (0: nothing) and asks `shared_layer` on a miss. The log that
    /// owns the cache tells it where to begin.
    pub fn new(max_bytes: usize, shared_layer: Arc<dyn SharedLayer>, metrics: Arc<Metrics>) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(max_bytes / SHARDS))).collect();
        Arc::new(Self {
            shards,
            secret: RandomState::new(),
            single_flight: SingleFlight::default(),
            shared_layer,
            max_bytes,
            rates: Rates::default(),
            metrics,
        })
    }

    /// The layer that several instances share.
    pub fn shared_layer(&self) -> &dyn SharedLayer {
        &*self.shared_layer
    }

    /// The query for the newest events of a filter. `None`: the reader's answer is private to that reader, so the cache
    /// has no part in it.
    pub fn rows_query(
        &self,
        filter: &Filter,
        access: &Access,
        size: impl Into<PageSize>,
        now: Timestamp,
    ) -> Option<RowsQuery> {
        self.unless_bypassed(RowsQuery::new(filter, access, size.into(), now, &self.secret))
    }

    /// The query for how many events `filters` select. `None` as for [`rows_query`](Self::rows_query).
    pub fn count_query(&self, filters: &[Filter], access: &Access, now: Timestamp) -> Option<CountQuery> {
        self.unless_bypassed(CountQuery::new(filters, access, now, &self.secret))
    }

    fn unless_bypassed<T>(&self, query: Option<T>) -> Option<T> {
        if query.is_none() {
            self.metrics.cache_requests.of(CacheLayer::L1, CacheResult::Bypass).increment(1);
        }
        query
    }

    /// Counts a hit or a miss of `layer`.
    pub fn note(&self, layer: CacheLayer, hit: bool) {
        let result = if hit { CacheResult::Hit } else { CacheResult::Miss };
        self.metrics.cache_requests.of(layer, result).increment(1);
        self.rates.note(layer, hit);
    }

    /// The hit rate of each layer over about the last minute. Call it once a second, from one task.
    pub fn hit_rates(&self) -> [(CacheLayer, f64); 2] {
        self.rates.look()
    }

    /// The hit rate of each layer as [`hit_rates`](Self::hit_rates) computed it last.
    pub fn last_hit_rates(&self) -> [(CacheLayer, f64); 2] {
        self.rates.last()
    }

    /// About how many bytes the layer in the process may keep.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// The answer to `query`, if the cache has it. Never waits.
    pub fn find<T>(&self, query: &impl CacheQuery<T>) -> Option<T> {
        let found = self.look(query.hashed_key());
        let answer = found.as_ref().and_then(|found| query.answer_from(&found.answer, found.head));
        self.note(CacheLayer::L1, answer.is_some());
        tracing::debug!(asked = %query.hashed_key().key().query, hit = answer.is_some(), "cache");

        if found.is_some() && answer.is_none() {
            self.metrics.cache_refetches.increment(1);
        }
        answer
    }

    /// The answer to a query that has missed before, in case another leader has published it meanwhile.
    pub fn find_now<T>(&self, query: &impl CacheQuery<T>) -> Option<T> {
        let found = self.shard(query.hashed_key()).lock().find_again(query.hashed_key())?;
        query.answer_from(&found.answer, found.head)
    }

    /// The query to ask instead of `query` where every row of its entry is too new, and would be after another read:
    /// many authors have published with dates ahead of the `until` of a reader who asks for the present.
    pub fn instead_of(&self, query: &RowsQuery) -> Option<RowsQuery> {
        let kept = self.shard(query.hashed_key()).lock().find_again(query.hashed_key())?;
        let passed = CacheQuery::<Snapshot>::can_never_answer(query, &kept.answer);
        passed.then(|| query.exact(&self.secret)).flatten()
    }

    /// For each of `ids`, whether there is such an event that a reader with `access` may see, and the head as of which
    /// that holds. `None`: the cache does not know. Never waits.
    pub fn find_ids(&self, ids: &[EventId], access: &Access, now: Timestamp) -> Vec<Option<(Option<Row>, Head)>> {
        let one = |id: &EventId| {
            let filter = Filter { ids: Some([*id].into()), ..Filter::default() };
            let query = RowsQuery::new(&filter, access, PageSize::from(1), now, &self.secret)?;
            let found = self.look(query.hashed_key())?;
            let mut entry: Snapshot = query.answer_from(&found.answer, found.head)?;
            Some((entry.rows.pop_front(), entry.head))
        };
        ids.iter().map(one).collect()
    }

    /// Looks an entry up, and offers it to the shared layer again where that is due.
    fn look(&self, hashed: &HashedKey) -> Option<CacheHit> {
        let found = self.shard(hashed).lock().find(hashed, self.shared_layer.renew_after())?;
        if found.renew {
            self.shared_layer.put(hashed.key(), found.answer.at(found.head), Miss::default());
        }
        Some(found)
    }

    /// Joins the read of `hashed` as its leader or as a follower.
    pub fn join(&self, hashed: &HashedKey) -> Join<'_> {
        let joined = self.single_flight.join(hashed);
        if let Join::Follower(_) = &joined {
            self.metrics.cache_followers.increment(1);
        }
        joined
    }

    /// Keeps an answer, if it deserves the room. Where the log has gone on since the read, `bring_up` brings the answer
    /// up to date; it returns `None` where that is impossible. `cost` is how long the read took.
    pub fn keep(
        &self,
        hashed: &HashedKey,
        answer: Answer,
        cost: Duration,
        bring_up: impl Fn(&FilterKey, Answer) -> Option<Answer>,
    ) {
        match answer.by_id(hashed.key()) {
            None => self.keep_one(hashed, answer, cost, bring_up),
            Some(each) => {
                for (key, answer) in each {
                    self.keep_one(&HashedKey::new(key, &self.secret), answer, cost, &bring_up);
                }
            }
        }
    }

    fn keep_one(
        &self,
        hashed: &HashedKey,
        mut answer: Answer,
        cost: Duration,
        bring_up: impl Fn(&FilterKey, Answer) -> Option<Answer>,
    ) {
        let shard = self.shard(hashed);
        for _ in 0..ROUNDS {
            let outcome = shard.lock().keep(hashed, answer, cost);
            let KeepOutcome::Outdated(old) = outcome else { return };
            let Some(brought_up) = bring_up(hashed.key(), old) else { return };
            answer = brought_up;
        }
    }

    /// Applies the next entry of the log. One task calls it, in order.
    pub fn apply(&self, entry: &LogEntry) {
        self.shards.iter().for_each(|shard| shard.lock().apply(entry));
    }

    /// Forgets everything and continues after `head`: an epoch has ended, or the log continues somewhere else.
    pub fn flush(&self, head: Head) {
        self.shards.iter().for_each(|shard| shard.lock().flush(head));
    }

    /// Forgets in this process what an operator purges; returns the number of entries.
    pub fn purge(&self, purge: &Purge) -> usize {
        self.shards.iter().map(|shard| shard.lock().forget_those(|key, _| purge.concerns(key))).sum()
    }

    /// The `count` entries that have saved most time, the best first.
    pub fn hottest(&self, count: usize) -> Vec<HotEntry> {
        let mut all: Vec<HotEntry> =
            self.shards.iter().flat_map(|shard| shard.lock().all().collect::<Vec<_>>()).collect();
        all.sort_by_key(|hot| std::cmp::Reverse(hot.saved()));
        all.truncate(count);
        all
    }

    /// What the layer in the process holds.
    pub fn facts(&self) -> ShardFacts {
        self.shards.iter().map(|shard| shard.lock().facts()).fold(ShardFacts::default(), |sum, shard| ShardFacts {
            entries: sum.entries + shard.entries,
            bytes: sum.bytes + shard.bytes,
            evictions: sum.evictions + shard.evictions,
        })
    }

    fn shard(&self, hashed: &HashedKey) -> &Mutex<Shard> {
        // The highest bits of the hash choose the shard; the lowest find the bucket in the map.
        &self.shards[(hashed.hash() >> 56) as usize % SHARDS]
    }
}
