//! Reading through the cache: what it has, else one flight for all who miss the same.

use super::page::{Snapshot, snapshot};
use super::{Queries, QueryError, QueryLimits};
use crate::cache::{Boarding, Cache, Entry, FilterKey, Landing, Pilot, Question};
use crate::store::Page;
use crate::telemetry::{CacheLayer, ReadSource};
use crate::types::{Access, Filter, Row, now};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a query boards: the flight may end early, or bring less than is asked.
const BOARDINGS: usize = 3;

/// What may answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Whoever can.
    Any,
    /// The store: what came before was too old or too short.
    Store,
}

impl Queries {
    /// One filter's newest rows at some position that the ring reaches back to, or did a moment ago.
    pub(super) async fn read(
        &self,
        filter: &Filter,
        access: &Access,
        limits: QueryLimits,
        source: Source,
    ) -> Result<Snapshot, QueryError> {
        let limit = filter.limit.map_or(limits.default_limit, |limit| limit as usize).min(limits.max_limit);
        if limit == 0 || filter.is_impossible() {
            return Ok(Snapshot::nothing(self.log.head()));
        }
        let begun = Instant::now();
        if let Some(cache) = self.log.cache()
            && let Some(question) = cache.question(filter, access, limit, now())
        {
            if source == Source::Any
                && let Some(answer) = cache.find(&question)
            {
                self.metrics.cache_reads.of(ReadSource::L1).record(begun.elapsed());
                return Ok(answer);
            }
            if let Some(answer) = self.fly(cache, &question, limits, source).await? {
                return Ok(answer);
            }
        }
        Ok(snapshot(self.read_store(filter, limit, access, limits).await?, limit))
    }

    /// Joins the flight that brings the answer, or begins one. `None`: no flight can bring it.
    async fn fly(
        &self,
        cache: &Cache,
        question: &Question,
        limits: QueryLimits,
        source: Source,
    ) -> Result<Option<Snapshot>, QueryError> {
        for _ in 0..BOARDINGS {
            match cache.board(question) {
                Boarding::Pilot(pilot) => {
                    // Another flight may have landed since we looked.
                    if source == Source::Any
                        && let Some(answer) = cache.find_now(question)
                    {
                        return Ok(Some(answer));
                    }
                    return self.pilot(pilot, cache, question, limits, source).await;
                }
                Boarding::Passenger(passenger) => match passenger.wait().await {
                    Some(Landing::Entry(entry)) => {
                        if let Some(answer) = question.answer(&entry, entry.head) {
                            return Ok(Some(answer));
                        }
                    }
                    Some(Landing::TooLarge) => return Ok(None),
                    Some(Landing::Failed(error)) => return Err(QueryError::Store(error)),
                    None => {}
                },
            }
        }
        Ok(None)
    }

    /// Reads for all who wait: from the layer that instances share, else from the store.
    async fn pilot(
        &self,
        pilot: Pilot<'_>,
        cache: &Cache,
        question: &Question,
        limits: QueryLimits,
        source: Source,
    ) -> Result<Option<Snapshot>, QueryError> {
        self.metrics.cache_flights.increment(1);
        let key = question.name().key();
        let begun = Instant::now();
        if source == Source::Any && cache.behind().renew_after().is_some() {
            let usable = |entry: &Entry| {
                self.log.reaches_back_to(entry.head) && question.answer::<Row, Row>(entry, entry.head).is_some()
            };
            let found = cache.behind().get(key, &usable).await;
            // It may be minutes old: once, for who asks and for what is kept.
            let found = found.and_then(|entry| self.bring_up(key, entry));
            let answer = found.as_ref().and_then(|entry| question.answer(entry, entry.head));
            cache.note(CacheLayer::L2, answer.is_some());
            if let (Some(entry), Some(answer)) = (found, answer) {
                self.metrics.cache_reads.of(ReadSource::L2).record(begun.elapsed());
                self.keep_and_land(pilot, cache, question, Arc::new(entry), begun.elapsed());
                return Ok(Some(answer));
            }
        }
        let (filter, access) = (&key.filter, key.reader.access());
        let page = match self.read_store(filter, question.rows_to_read(), &access, limits).await {
            Ok(page) => page,
            Err(error) => {
                if let QueryError::Store(error) = &error {
                    pilot.land(Landing::Failed(error.clone()));
                }
                return Err(error);
            }
        };
        self.metrics.cache_reads.of(ReadSource::Store).record(begun.elapsed());
        if !page.rest.is_empty() {
            pilot.land(Landing::TooLarge);
            let read = snapshot(page, question.rows_to_read());
            return Ok(question.answer(&read, read.head));
        }
        let Page { mut rows, head, complete, .. } = page;
        // It may be kept for long.
        rows.shrink_to_fit();
        let entry = Entry { head, limit: question.rows_to_keep(), rows: rows.into(), complete };
        let answer = question.answer(&entry, head);
        let entry = Arc::new(entry);
        cache.behind().put(key, entry.clone());
        self.keep_and_land(pilot, cache, question, entry, begun.elapsed());
        Ok(answer)
    }

    /// Keeps what a flight has brought, then tells everyone who waits for it.
    fn keep_and_land(&self, pilot: Pilot<'_>, cache: &Cache, question: &Question, entry: Arc<Entry>, cost: Duration) {
        let key = question.name().key();
        cache.keep(question, entry.clone(), cost, |entry| self.bring_up(key, entry));
        pilot.land(Landing::Entry(entry));
    }

    /// Brings an entry to the local head. `None`: the ring does not reach back to it.
    fn bring_up(&self, key: &FilterKey, mut entry: Entry) -> Option<Entry> {
        let tail = self.log.tail(entry.head).ok()?;
        entry.advance(&tail.entries, tail.head, |event| key.selects(event));
        Some(entry)
    }
}
