//! The journey of a query: read at W, tail, send, EOSE, live after H.
//!
//! Each filter is read as one snapshot with its own position W. The local head is brought up to the greatest W and to
//! what this instance has acknowledged; that head is H. The log's changes in (W, H] are applied to each filter's rows,
//! so all of them are exact as of H. They are merged and sent, then the subscription is opened right after H. So an
//! event is sent as stored or as live, never as both, never as neither, however far apart the snapshots are. A snapshot
//! of another epoch counts only as far as nothing was cut off; else it is read again.

mod cached;
mod count;
#[cfg(test)]
mod exactness;
mod freshness;
mod held;
#[cfg(test)]
mod held_tests;
mod ids;
mod page;
mod send;
#[cfg(test)]
mod tests;

use crate::cache::PageSize;
use crate::log::{Log, LogClosed};
use crate::outbox::Subscription;
use crate::store::{Page, Read, SharedLog, Store, StoreError, form_name};
use crate::telemetry::{Metrics, Shed, Stage, Trace};
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Access, Event, Filter, Head, Refusal, now};
use cached::Source;
use freshness::Primary;
use futures_util::future::{try_join, try_join_all};
use held::QueryMemory;
use page::PageSnapshot;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How queries are bounded.
#[derive(Debug, Clone, Copy)]
pub struct QueryLimits {
    /// How many stored events a filter without `limit` gets.
    pub default_limit: usize,
    /// How many stored events a filter gets at most.
    pub max_limit: usize,
    /// EOSE says whether there is more (NIP-67).
    pub eose_hints: bool,
    /// Where it does, the most stored events that a filter gets beyond its limit to complete a second.
    pub boundary_overrun: usize,
    /// The most bytes of text that a query reads ahead; it fetches the rest while the client reads.
    pub max_text_bytes: usize,
    /// How long a query waits for the local head to reach what it has read.
    pub head_timeout: Duration,
}

impl QueryLimits {
    /// How many stored events `filter` gets at most. One that names ids has no more answers than ids, so without a
    /// `limit` it gets all of them.
    fn rows_of(&self, filter: &Filter) -> usize {
        let ids = filter.ids.as_ref().map_or(usize::MAX, |ids| ids.len());
        let default = if filter.ids.is_some() { ids } else { self.default_limit };
        filter.limit.map_or(default, |limit| limit as usize).min(ids).min(self.max_limit)
    }

    /// The rows to read for `filter`: with hints, one more than it may get, which tells whether there is more.
    fn page_of(&self, filter: &Filter) -> PageSize {
        let wanted = self.rows_of(filter);
        let spare = if self.eose_hints && wanted > 0 { self.overrun_of(wanted) + 1 } else { 0 };
        PageSize { wanted, spare }
    }

    /// How many rows a filter may get beyond the `wanted` ones to complete a second: none beyond the one row of a
    /// client that asks for the newest alone.
    fn overrun_of(&self, wanted: usize) -> usize {
        if self.eose_hints && wanted > 1 { self.boundary_overrun.min(wanted) } else { 0 }
    }
}

/// Why a query could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The store could not answer the query, or the leader of its single-flight.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// The local head did not come up to what was read.
    #[error("the log did not catch up in time")]
    Behind,
    /// The ring moved on faster than the store could be read, several times over.
    #[error("the log moved on faster than the store could be read")]
    OutOfReach,
    /// No memory came free in time.
    #[error("no memory came free in time")]
    OutOfMemory,
    /// The connection holds as much memory as one may.
    #[error("the connection holds as much memory as one may")]
    MemoryShare,
    /// The client takes nothing, and others need the memory.
    #[error("the client reads too slowly while memory is scarce")]
    SlowReader,
    /// The relay is shutting down.
    #[error("the relay is shutting down")]
    Closed,
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<LogClosed> for QueryError {
    fn from(_: LogClosed) -> Self {
        Self::Closed
    }
}

impl From<&QueryError> for Refusal {
    fn from(error: &QueryError) -> Self {
        match error {
            QueryError::Store(error) => Self::from(&**error),
            QueryError::Behind | QueryError::OutOfReach | QueryError::OutOfMemory => Self::Overloaded,
            QueryError::MemoryShare => Self::MemoryShare,
            QueryError::SlowReader => Self::SlowReader,
            QueryError::Closed => Self::ShuttingDown,
        }
    }
}

/// How many filters of one REQ are read at the same time: as many as the smallest pool has connections. So a REQ of 200
/// filters takes turns with other queries, which do not wait for all of it.
const READS_AT_ONCE: usize = 4;

/// How often a filter is read again when its snapshot turned out too old or too short, before the query gives up.
/// Each round needs the store to be overtaken anew, so more than one is already rare.
const MAX_ROUNDS: usize = 8;

/// Answers REQ and COUNT from the store and the log.
pub struct Queries {
    store: Arc<dyn Store>,
    log: Arc<Log>,
    /// Set where other instances write too: queries must see their writes.
    primary: Option<Primary>,
    metrics: Arc<Metrics>,
}

impl Queries {
    /// Answers from `store`, which only this instance writes, brought up to date from `log`.
    pub fn new(store: Arc<dyn Store>, log: Arc<Log>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { store, log, primary: None, metrics })
    }

    /// Answers as one of several instances that write `shared`.
    pub fn clustered(
        store: Arc<dyn Store>,
        log: Arc<Log>,
        shared: Arc<dyn SharedLog>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self { store, log, primary: Some(Primary::new(shared)), metrics })
    }

    /// Answers a whole REQ: stored events, EOSE, then live events; or CLOSED with the reason. Dropping the future is
    /// safe: what was queued stays queued, and the owner of the subscription still has to close it.
    pub async fn answer(&self, subscription: &Arc<Subscription>, access: &Access, limits: QueryLimits) {
        if let Err(error) = self.run(subscription, access, limits).await {
            if let QueryError::Store(cause) = &error
                && let StoreError::Database(_) | StoreError::Damaged(_) = **cause
            {
                tracing::error!(%error, "a query failed");
            }
            let refusal = Refusal::from(&error);
            if refusal == Refusal::Overloaded {
                self.metrics.shed.of(Shed::Req).increment(1);
            }
            self.log.close(subscription, refusal);
        }
    }

    async fn run(
        &self,
        subscription: &Arc<Subscription>,
        access: &Access,
        limits: QueryLimits,
    ) -> Result<(), QueryError> {
        let mut trace = self.metrics.journeys.begin(Instant::now());
        let passed = |trace: &mut Option<Box<Trace>>, stage| trace.iter_mut().for_each(|trace| trace.passed(stage));
        let mut memory = QueryMemory::new(&subscription.outbox, subscription.filters.len(), limits);

        let (snapshots, head) = self.settle(&subscription.filters, access, &memory, limits).await?;
        passed(&mut trace, Stage::ReqRead);

        let (answer, hints) = page::compose(snapshots, &subscription.filters, access, limits);
        if self.send(subscription, answer, head, &mut memory, limits).await? {
            // A subscription may stay open for days: the query's memory must not.
            drop(memory);
            // EOSE before the subscription opens: a live event must not come before it.
            subscription.outbox.end_of_stored(subscription, hints);
            passed(&mut trace, Stage::ReqSend);
            self.log.open(subscription, head);
        }
        if let Some(trace) = trace {
            trace.finish(&self.metrics.stages);
        }
        Ok(())
    }

    /// Reads every filter and brings all of them to one head, H.
    async fn settle(
        &self,
        filters: &[Filter],
        access: &Access,
        memory: &QueryMemory,
        limits: QueryLimits,
    ) -> Result<(Vec<PageSnapshot>, Head), QueryError> {
        let now = now();
        // Read your own writes: every answer includes what this instance acknowledged before the query began, and what
        // the primary had when it was asked. The snapshots may be older than either: the log brings them up to date.
        let acknowledged = self.log.acknowledged();

        // The primary is asked while the filters are read: its head costs no time of its own.
        let reads = async {
            let mut snapshots = Vec::with_capacity(filters.len());
            for some in filters.chunks(READS_AT_ONCE) {
                let reads = some.iter().map(|filter| self.read_page(filter, access, memory, limits));
                snapshots.extend(try_join_all(reads).await?);
            }
            Ok(snapshots)
        };
        let (mut snapshots, ()) = try_join(reads, self.see_other_instances(filters, access, limits)).await?;
        if !ablated(Safeguard::Acknowledged) {
            self.reach(acknowledged, limits).await?;
        }

        // Each round applies the log to the snapshots, and reads again what is too old or too short.
        for _ in 0..MAX_ROUNDS {
            let mut heads: Vec<Head> = snapshots.iter().map(|snapshot| snapshot.head).collect();
            for head in &mut heads {
                if ablated(Safeguard::Pull) {
                    head.position = head.position.min(self.log.head().position);
                }
                self.reach(*head, limits).await?;
            }

            let again: Vec<usize> = match self.log.tail_of_all(&heads) {
                Ok(tail) => {
                    for (snapshot, filter) in snapshots.iter_mut().zip(filters) {
                        let selects =
                            |event: &Event| filter.matches(event) && !event.is_expired(now) && access.may_read(event);
                        snapshot.advance(&tail.entries, tail.head, selects);
                    }
                    let short = |(snapshot, filter): (&PageSnapshot, &Filter)| {
                        snapshot.is_short(limits.rows_of(filter)) && !ablated(Safeguard::Refetch)
                    };
                    let pairs = snapshots.iter().zip(filters).enumerate();
                    let short: Vec<usize> = pairs.filter(|(_, pair)| short(*pair)).map(|(at, _)| at).collect();
                    if short.is_empty() {
                        return Ok((snapshots, tail.head));
                    }
                    short
                }
                Err(out_of_reach) => out_of_reach,
            };

            for at in again {
                if let (Some(filter), Some(snapshot)) = (filters.get(at), snapshots.get_mut(at)) {
                    self.metrics.rereads.increment(1);
                    *snapshot = self.read(filter, access, memory, limits, Source::Store).await?;
                }
            }
        }
        Err(QueryError::OutOfReach)
    }

    /// One filter's newest rows, with texts as far as the memory of this query goes.
    async fn read_page(
        &self,
        filter: &Filter,
        access: &Access,
        memory: &QueryMemory,
        limits: QueryLimits,
    ) -> Result<PageSnapshot, QueryError> {
        let mut snapshot = self.read(filter, access, memory, limits, Source::Any).await?;
        memory.keep(&mut snapshot)?;
        Ok(snapshot)
    }

    /// Waits until the local head has reached the primary's head of this moment, for queries whose client may know of a
    /// write through another instance: they name an id or an author, or their connection has published.
    async fn see_other_instances(
        &self,
        filters: &[Filter],
        access: &Access,
        limits: QueryLimits,
    ) -> Result<(), QueryError> {
        let named = |filter: &Filter| filter.ids.is_some() || filter.authors.is_some();
        let Some(primary) = &self.primary else { return Ok(()) };
        if !(access.has_published || filters.iter().any(named)) || ablated(Safeguard::PrimaryHead) {
            return Ok(());
        }
        match primary.head(&self.log).await {
            Some(head) => self.reach(head, limits).await,
            None => {
                // While the primary is down, an answer as of the local head is better than none.
                self.metrics.reads_without_primary.increment(1);
                Ok(())
            }
        }
    }

    async fn read_store(
        &self,
        filter: &Filter,
        limit: usize,
        access: &Access,
        memory: &QueryMemory,
    ) -> Result<Page, QueryError> {
        let max_text_bytes = memory.read_bytes().await?;
        let _permit = memory.read_permit().await;
        let read = Read {
            filter,
            limit,
            after: None,
            access: Some(access),
            // The ring could not bring an older snapshot up to date.
            at_least: self.log.floor(),
            now: now(),
            max_text_bytes,
        };
        Ok(self.timed(std::slice::from_ref(filter), self.store.read(&read)).await?)
    }

    /// Measures a call of the store: its time, whether it failed, and its shape where it is among the slowest.
    async fn timed<T>(
        &self,
        filters: &[Filter],
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let result = call.await;
        let took = start.elapsed();
        self.metrics.store_read.record(took);
        let describe = || {
            let shapes: Vec<_> = filters.iter().map(Filter::shape).collect();
            let forms: Vec<_> = filters.iter().map(form_name).collect();
            (shapes.join(" | "), forms.join(" | "))
        };
        self.metrics.notes.read(took, now(), describe);
        if result.is_err() {
            self.metrics.store_errors.increment(1);
        }
        result
    }

    async fn reach(&self, wanted: Head, limits: QueryLimits) -> Result<(), QueryError> {
        let head = self.log.head();
        if head.epoch == wanted.epoch && head.position >= wanted.position {
            return Ok(());
        }
        tokio::time::timeout(limits.head_timeout, self.log.reach(wanted)).await.map_err(|_| QueryError::Behind)??;
        Ok(())
    }
}
