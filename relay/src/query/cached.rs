//! Reading through the cache. All queries that miss the same key at the same time share one read (single-flight).

use super::held::QueryMemory;
use super::page::{PageSnapshot, snapshot};
use super::{Queries, QueryError, QueryLimits};
use crate::cache::{
    Answer, Cache, CacheQuery, FilterKey, FlightLeader, HashedKey, Join, Miss, PageSize, RowsQuery, SharedResult,
    Snapshot, only_few_ids,
};
use crate::store::Page;
use crate::telemetry::{CacheLayer, ReadSource};
use crate::types::{Access, Filter, Head, now};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How often a query joins a flight: the leader may be dropped, or publish fewer rows than this query asks for.
const MAX_JOINS: usize = 3;

/// A shared answer that is this many log entries old is written back once it was brought up to date, so that it stays
/// within the reach of the ring.
const OLD_ENTRIES: u64 = 1_000;

/// How long a query waits for the local head to reach a shared answer that is ahead of it.
const AHEAD: Duration = Duration::from_millis(25);
/// How many entries may come in that time. A query does not wait for an answer that is further ahead: then this
/// instance is behind, and the wait would be in vain.
const NEAR_ENTRIES: u64 = 32;

/// Which sources may answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The ring, the cache or the store.
    Any,
    /// The store alone: the answer before was too old or too short.
    Store,
}

/// What a read of the store has brought.
pub(super) enum Brought<T> {
    /// An answer for the cache.
    Answer(Answer),
    /// More text than memory holds at once, so nothing for the cache; with the leader's own answer, if there is one.
    TooLarge(Option<T>),
}

/// Asks for one filter's newest rows, as one reader may see them.
#[derive(Clone, Copy)]
pub(super) struct PageRequest<'a> {
    pub(super) filter: &'a Filter,
    pub(super) size: PageSize,
    pub(super) access: &'a Access,
    pub(super) memory: &'a QueryMemory,
    pub(super) limits: QueryLimits,
}

impl Queries {
    /// One filter's newest rows, at a position that the ring reaches back to, or reached back to a moment ago.
    pub(super) async fn read(
        &self,
        filter: &Filter,
        access: &Access,
        memory: &QueryMemory,
        limits: QueryLimits,
        source: Source,
    ) -> Result<PageSnapshot, QueryError> {
        let size = limits.page_of(filter);
        if size.wanted == 0 || filter.is_impossible() {
            return Ok(PageSnapshot::nothing(self.log.head()));
        }

        let request = PageRequest { filter, size, access, memory, limits };
        let Some(cache) = self.log.cache() else { return self.read_alone(request).await };
        if source == Source::Any
            && let Some(ids) = only_few_ids(filter)
        {
            return self.read_ids(cache, request, ids).await;
        }

        let begun = Instant::now();
        let find = |query: &RowsQuery| {
            let answer = (source == Source::Any).then(|| cache.find(query)).flatten()?;
            self.metrics.cache_reads.of(ReadSource::L1).record(begun.elapsed());
            Some(answer)
        };
        let mut query = cache.rows_query(filter, access, size, now());
        if let Some(answer) = query.as_ref().and_then(find) {
            return Ok(answer);
        }
        // Another entry whose rows include the ones that this query asks for.
        if let Some(instead) = query.as_ref().and_then(|query| cache.instead_of(query)) {
            if let Some(answer) = find(&instead) {
                return Ok(answer);
            }
            query = Some(instead);
        }
        self.read_anew(cache, request, query.as_ref(), source).await
    }

    /// Reads rows that this process does not have: as a flight for `query`, or for this reader alone.
    pub(super) fn read_anew<'a>(
        &'a self,
        cache: &'a Cache,
        request: PageRequest<'a>,
        query: Option<&'a RowsQuery>,
        source: Source,
    ) -> BoxFuture<'a, Result<PageSnapshot, QueryError>> {
        // Boxed: most queries end with a hit, and their futures stay small without this one inside.
        async move {
            // Reserved before the query leads: its followers must not wait for this connection's memory.
            request.memory.read_bytes().await?;
            if let Some(query) = query
                && let Some(answer) =
                    self.read_once(cache, query, source, self.read_rows(query, request.memory)).await?
            {
                return Ok(answer);
            }

            if let Some(instead) = query.and_then(|query| cache.instead_of(query))
                && let Some(answer) =
                    self.read_once(cache, &instead, source, self.read_rows(&instead, request.memory)).await?
            {
                return Ok(answer);
            }
            self.read_alone(request).await
        }
        .boxed()
    }

    pub(super) async fn read_alone(&self, request: PageRequest<'_>) -> Result<PageSnapshot, QueryError> {
        let PageRequest { filter, size, access, memory, .. } = request;
        Ok(snapshot(self.read_store(filter, size.rows(), access, memory).await?, size.rows()))
    }

    /// Joins the flight that brings the answer, or leads it: takes what another instance has shared, else awaits
    /// `read`. `None`: no shared read can bring the answer.
    pub(super) async fn read_once<T>(
        &self,
        cache: &Cache,
        query: &(impl CacheQuery<T> + Sync),
        source: Source,
        read: impl Future<Output = Result<Brought<T>, QueryError>>,
    ) -> Result<Option<T>, QueryError> {
        for _ in 0..MAX_JOINS {
            match cache.join(query.hashed_key()) {
                Join::Leader(leader) => {
                    // Another leader may have published since this query looked.
                    if source == Source::Any
                        && let Some(answer) = cache.find_now(query)
                    {
                        return Ok(Some(answer));
                    }
                    return self.lead(leader, cache, query, source, read).await;
                }
                Join::Follower(follower) => match follower.wait().await {
                    Some(SharedResult::Answer(answer)) => {
                        if let Some(own_answer) = query.answer_from(&answer, answer.head()) {
                            return Ok(Some(own_answer));
                        }
                        if query.can_never_answer(&answer) {
                            return Ok(None);
                        }
                    }
                    Some(SharedResult::TooLarge) => return Ok(None),
                    Some(SharedResult::Failed(error)) => return Err(QueryError::Store(error)),
                    None => {}
                },
            }
        }
        Ok(None)
    }

    /// Reads for all followers: from the layer that instances share, else from the store.
    async fn lead<T>(
        &self,
        leader: FlightLeader<'_>,
        cache: &Cache,
        query: &(impl CacheQuery<T> + Sync),
        source: Source,
        read: impl Future<Output = Result<Brought<T>, QueryError>>,
    ) -> Result<Option<T>, QueryError> {
        self.metrics.cache_flights.increment(1);
        let (hashed, begun) = (query.hashed_key(), Instant::now());
        let mut miss = Miss::default();

        if source == Source::Any && cache.shared_layer().renew_after().is_some() {
            let usable = |answer: &Answer| {
                self.log.reaches_back_to(answer.head()) && query.answer_from(answer, answer.head()).is_some()
            };
            let found = cache.shared_layer().get(hashed.key(), &usable).await.inspect_err(|place| miss = *place).ok();
            let is_old = found.as_ref().is_some_and(|answer| self.is_old(answer.head()));
            if let Some(head) = found.as_ref().map(Answer::head).filter(|head| self.is_near(*head)) {
                // The instance that has read it may be ahead by a moment. To wait for that is cheaper than to read.
                let _ = timeout(AHEAD, self.log.reach(head)).await;
            }
            // Brought up to date once, for this query's answer and for the cache.
            let found = found.and_then(|answer| self.bring_up(hashed.key(), answer));
            let own_answer = found.as_ref().and_then(|answer| query.answer_from(answer, answer.head()));
            cache.note(CacheLayer::L2, own_answer.is_some());
            if let (Some(answer), Some(own_answer)) = (found, own_answer) {
                self.metrics.cache_reads.of(ReadSource::L2).record(begun.elapsed());
                if is_old {
                    cache.shared_layer().put(hashed.key(), answer.clone(), Miss::default());
                }
                self.keep(cache, hashed, answer.clone(), begun.elapsed());
                leader.publish(SharedResult::Answer(answer));
                return Ok(Some(own_answer));
            }
        }

        // On every way out that shares nothing: other instances would wait for the answer until the lease ends.
        let release_lease = || cache.shared_layer().release_lease(hashed.key(), miss);
        let answer = match read.await {
            Ok(Brought::Answer(answer)) => answer,
            Ok(Brought::TooLarge(own_answer)) => {
                release_lease();
                leader.publish(SharedResult::TooLarge);
                return Ok(own_answer);
            }
            Err(error) => {
                release_lease();
                if let QueryError::Store(error) = &error {
                    leader.publish(SharedResult::Failed(error.clone()));
                }
                return Err(error);
            }
        };

        self.metrics.cache_reads.of(ReadSource::Store).record(begun.elapsed());
        let own_answer = query.answer_from(&answer, answer.head());
        cache.shared_layer().put(hashed.key(), answer.clone(), miss);
        self.keep(cache, hashed, answer.clone(), begun.elapsed());
        // Published last: a follower for which the answer is too short looks into the cache next and must find it
        // there.
        leader.publish(SharedResult::Answer(answer));
        Ok(own_answer)
    }

    /// True where the local head has reached `of`, or soon will.
    fn is_near(&self, of: Head) -> bool {
        let head = self.log.head();
        of.epoch == head.epoch && of.position.0.saturating_sub(head.position.0) <= NEAR_ENTRIES
    }

    fn is_old(&self, of: Head) -> bool {
        let head = self.log.head();
        of.epoch != head.epoch || head.position.0.saturating_sub(of.position.0) >= OLD_ENTRIES
    }

    /// Puts an answer into the cache, brought up to date where the log has gone on.
    pub(super) fn keep(&self, cache: &Cache, hashed: &HashedKey, answer: Answer, cost: Duration) {
        cache.keep(hashed, answer, cost, |key, answer| self.bring_up(key, answer));
    }

    /// Reads the rows of a cache entry that can answer `query`.
    async fn read_rows(&self, query: &RowsQuery, memory: &QueryMemory) -> Result<Brought<PageSnapshot>, QueryError> {
        let (key, rows) = (query.key(), query.rows_to_read());
        let [filter] = key.filters() else { return Ok(Brought::TooLarge(None)) };
        let page = self.read_store(filter, rows, &key.reader.access(), memory).await?;
        if !page.rest.is_empty() {
            let read = snapshot(page, rows);
            return Ok(Brought::TooLarge(query.answer(&read, read.head)));
        }
        let Page { mut rows, head, complete, .. } = page;
        // The entry may stay in the cache for long.
        rows.shrink_to_fit();
        let entry = Snapshot { head, limit: query.rows_to_keep(), rows: rows.into(), complete, read_at: now() };
        Ok(Brought::Answer(Answer::Rows(Arc::new(entry))))
    }

    /// Brings an answer to the local head. `None`: the ring does not reach back to it, or it is a count for which the
    /// log cannot tell.
    fn bring_up(&self, key: &FilterKey, answer: Answer) -> Option<Answer> {
        let tail = self.log.tail_concerning(answer.head(), key.filters()).ok()?;
        answer.advance(key, &tail.entries, tail.head)
    }
}
