//! Reading through the cache: what it has, else one flight for all who miss the same.

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

/// How often a query joins a read: the leader may be dropped, or publish less than this query asks for.
const MAX_JOINS: usize = 3;

/// A shared answer that is this many log entries old is shared anew once it was brought up to date: going through more of
/// them than this takes longer than a read of the store, and each instance would do so again.
const OLD_ENTRIES: u64 = 1_000;

/// For how long a shared answer is waited for that is ahead of this instance's log.
const AHEAD: Duration = Duration::from_millis(25);
/// So many entries come in that time. One that is further ahead is not waited for: then this instance is behind.
const NEAR_ENTRIES: u64 = 32;

/// What may answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Whoever can.
    Any,
    /// The store: what came before was too old or too short.
    Store,
}

/// What was read from the store.
pub(super) enum Brought<T> {
    /// An answer that can be kept.
    Answer(Answer),
    /// More text than is held in memory at once, and what is own_answer of it to the one who has read it.
    TooLarge(Option<T>),
}

/// One filter's newest rows, as one reader wants them.
#[derive(Clone, Copy)]
pub(super) struct PageRequest<'a> {
    pub(super) filter: &'a Filter,
    pub(super) size: PageSize,
    pub(super) access: &'a Access,
    pub(super) memory: &'a QueryMemory,
    pub(super) limits: QueryLimits,
}

impl Queries {
    /// One filter's newest rows at some position that the ring reaches back to, or did a moment ago.
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
        if let Some(instead) = query.as_ref().and_then(|query| cache.instead_of(query)) {
            if let Some(answer) = find(&instead) {
                return Ok(answer);
            }
            query = Some(instead);
        }
        self.read_anew(cache, request, query.as_ref(), source).await
    }

    /// Rows that this process does not have: by the flight of `query`, or for this reader alone.
    pub(super) fn read_anew<'a>(
        &'a self,
        cache: &'a Cache,
        request: PageRequest<'a>,
        query: Option<&'a RowsQuery>,
        source: Source,
    ) -> BoxFuture<'a, Result<PageSnapshot, QueryError>> {
        // On the heap: most queries find what they want, and need not carry this about.
        async move {
            // Before it leads others: they would wait for this connection's memory.
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

    /// Joins the read that brings the answer, or leads it: takes what another instance has shared, else awaits `read`.
    /// `None`: no shared read can bring the answer.
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

    /// Reads for all who wait: from the layer that instances share, else from the store.
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
                // Whoever has read it may be ahead by a moment: about as long as a read takes.
                let _ = timeout(AHEAD, self.log.reach(head)).await;
            }
            // Once, for who asks and for what is kept.
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
        // Whoever waits finds it kept, should it not be enough.
        leader.publish(SharedResult::Answer(answer));
        Ok(own_answer)
    }

    /// True where the local head is there, or will soon be.
    fn is_near(&self, of: Head) -> bool {
        let head = self.log.head();
        of.epoch == head.epoch && of.position.0.saturating_sub(head.position.0) <= NEAR_ENTRIES
    }

    fn is_old(&self, of: Head) -> bool {
        let head = self.log.head();
        of.epoch != head.epoch || head.position.0.saturating_sub(of.position.0) >= OLD_ENTRIES
    }

    /// Keeps what was read, brought up to date where the log has gone on.
    pub(super) fn keep(&self, cache: &Cache, hashed: &HashedKey, answer: Answer, cost: Duration) {
        cache.keep(hashed, answer, cost, |key, answer| self.bring_up(key, answer));
    }

    /// Reads for an entry that can answer `query`.
    async fn read_rows(&self, query: &RowsQuery, memory: &QueryMemory) -> Result<Brought<PageSnapshot>, QueryError> {
        let (key, rows) = (query.key(), query.rows_to_read());
        let [filter] = key.filters() else { return Ok(Brought::TooLarge(None)) };
        let page = self.read_store(filter, rows, &key.reader.access(), memory).await?;
        if !page.rest.is_empty() {
            let read = snapshot(page, rows);
            return Ok(Brought::TooLarge(query.answer(&read, read.head)));
        }
        let Page { mut rows, head, complete, .. } = page;
        // It may be kept for long.
        rows.shrink_to_fit();
        let entry = Snapshot { head, limit: query.rows_to_keep(), rows: rows.into(), complete, read_at: now() };
        Ok(Brought::Answer(Answer::Rows(Arc::new(entry))))
    }

    /// Brings an answer to the local head. `None`: the ring does not reach back to it, or it is a count that cannot be.
    fn bring_up(&self, key: &FilterKey, answer: Answer) -> Option<Answer> {
        let tail = self.log.tail(answer.head()).ok()?;
        answer.advance(key, &tail.entries, tail.head)
    }
}
