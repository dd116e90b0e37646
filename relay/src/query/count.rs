//! COUNT (NIP-45): how many distinct events match.

use super::cached::{Brought, Source};
use super::{MAX_ROUNDS, Queries, QueryError, QueryLimits};
use crate::cache::{Answer, CacheQuery, Count, CountQuery};
use crate::telemetry::ReadSource;
use crate::types::{Access, Event, Filter, Position, now};
use std::time::Instant;

impl Queries {
    /// Counts the distinct events that at least one of `filters` selects and this reader may see, as of the head at
    /// which a REQ would be answered: the log brings the count of a lagging snapshot up to date.
    pub async fn count(&self, filters: &[Filter], access: &Access, limits: QueryLimits) -> Result<u64, QueryError> {
        let acknowledged = self.log.acknowledged();
        self.see_other_instances(filters, access, limits).await?;
        self.reach(acknowledged, limits).await?;

        let selects = |event: &Event| access.may_read(event) && filters.iter().any(|filter| filter.matches(event));
        // An event that expires while the store counts counts: it was there when the client asked.
        let asked_at = now();
        let (mut source, mut at_least) = (Source::Any, self.log.floor());

        for _ in 0..MAX_ROUNDS {
            let mut count = self.counted(filters, access, source, at_least).await?;
            self.reach(count.head, limits).await?;
            at_least = match self.log.tail(count.head) {
                Ok(tail) => match count.advance(&tail.entries, tail.head, selects) {
                    Ok(()) if count.holds_at(asked_at) => return Ok(count.number),
                    // Unsure: count again, as of this head, so that the next round has little or nothing to apply.
                    _ => tail.head.position,
                },
                Err(_) => self.log.floor(),
            };
            source = Source::Store;
        }
        Err(QueryError::OutOfReach)
    }

    /// The count at a position that the ring reaches back to, or reached back to a moment ago. A count from the store
    /// is not older than `at_least`.
    async fn counted(
        &self,
        filters: &[Filter],
        access: &Access,
        source: Source,
        at_least: Position,
    ) -> Result<Count, QueryError> {
        let begun = Instant::now();
        let Some(cache) = self.log.cache() else { return self.count_store(filters, access, at_least).await };
        let Some(query) = cache.count_query(filters, access, now()) else {
            return self.count_store(filters, access, at_least).await;
        };
        if source == Source::Any {
            if let Some(count) = cache.find(&query) {
                self.metrics.cache_reads.of(ReadSource::L1).record(begun.elapsed());
                return Ok(count);
            }
            if let Some(count) = self.read_once(cache, &query, source, self.count_all(&query, at_least)).await? {
                return Ok(count);
            }
        }

        // Not through single-flight: its result may be older than `at_least`.
        let count = self.count_store(filters, access, at_least).await?;
        self.keep(cache, query.hashed_key(), Answer::Count(count), begun.elapsed());
        Ok(count)
    }

    /// Counts for all readers of the query's class, as the leader of single-flight.
    async fn count_all(&self, query: &CountQuery, at_least: Position) -> Result<Brought<Count>, QueryError> {
        let key = query.key();
        let count = self.count_store(key.filters(), &key.reader.access(), at_least).await?;
        Ok(Brought::Answer(Answer::Count(count)))
    }

    async fn count_store(&self, filters: &[Filter], access: &Access, at_least: Position) -> Result<Count, QueryError> {
        let now = now();
        let counted = self.timed(filters, self.store.count(filters, access, at_least, now)).await?;
        Ok(Count::new(counted, now))
    }
}
