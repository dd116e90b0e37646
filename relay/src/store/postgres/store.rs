//! [`PostgresStore`]: the trait's calls, each on a connection to the right server.

use super::error::FailureClass;
use super::maintenance::MaintenanceStatus;
use super::nodes::{NodeStatus, Nodes};
use super::options::Options;
use super::planner::{PlanCounts, Planner};
use super::write::PostgresWrite;
use super::{count, log, lookup, read, schema, statistics, write};
use crate::store::rules::Vanish;
use crate::store::{Appended, Counted, LogSlice, Page, Read, SharedHead, SharedLog, Store, StoreError};
use crate::telemetry::Task;
use crate::types::{Access, EventId, Filter, Head, Position, Row, Timestamp, Verified};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::Connection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How often a store that opens looks for a primary, and for how long: servers that start together with it need a
/// moment.
const START_INTERVAL: Duration = Duration::from_millis(500);
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest that a write may take, however long the server lets a statement run: its commit may wait for a standby.
const MAX_WRITE_TIME: Duration = Duration::from_secs(300);

/// The longest that a starting relay waits for warm connections: a slow server must not keep it from serving.
const WARM_TIMEOUT: Duration = Duration::from_secs(3);

/// The store of a cluster. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct PostgresStore {
    pub(super) shared: Arc<StoreState>,
}

pub(super) struct StoreState {
    pub(super) nodes: Nodes,
    planner: Planner,
    /// The furthest head that any call has returned: this instance shows nothing older from then on.
    shown: Mutex<Head>,
    pub(super) maintenance_status: Mutex<MaintenanceStatus>,
    /// Writes hold it shared. Closing takes it exclusively, and so waits for them.
    writing: RwLock<()>,
}

/// Runs a read on one server after the other, until one has answered or the read has failed for a reason of its own.
macro_rules! on_a_server {
    ($shared:expr, $at_least:expr, |$connection:ident| $read:expr, $head:expr) => {{
        let mut attempts = $shared.nodes.attempts($at_least);
        loop {
            let mut lease = attempts.next().await?;
            let ($connection, server) = lease.parts()?;
            let result = server.bound($read).await;
            let result = result.map(|value| {
                let head: Option<Head> = $head(&value);
                (value, head)
            });
            if let Some(settled) = attempts.settle(lease, result) {
                break settled;
            }
        }
    }};
}

/// Runs a read on the present primary.
macro_rules! on_the_primary {
    ($shared:expr, |$connection:ident| $read:expr) => {{
        let mut lease = $shared.nodes.primary_now($shared.nodes.deadline()).await?;
        let ($connection, server) = lease.parts()?;
        let result = server.bound($read).await;
        if let Err(error) = &result
            && FailureClass::of(error) == FailureClass::Gone
        {
            lease.server.mark_down(error);
            lease.discard();
        }
        result
    }};
}

impl PostgresStore {
    /// The primary's own counters, as JSON for an operator: `unused_indexes`, and `statements`, which is null where the
    /// server lacks `pg_stat_statements`. On a connection of its own.
    ///
    /// # Errors
    /// The primary's error, or [`StoreError::Timeout`] after some seconds.
    pub async fn statistics(&self) -> Result<serde_json::Value, StoreError> {
        let ask = async { statistics::statistics(&mut self.shared.nodes.connect_to_primary().await?).await };
        tokio::time::timeout(statistics::STATISTICS_TIMEOUT, ask).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// Vacuums and analyses the primary's tables, as is due after a large import. Takes seconds to minutes, beside
    /// reads and writes. On a connection of its own.
    ///
    /// # Errors
    /// The primary's error.
    pub async fn vacuum(&self) -> Result<(), StoreError> {
        statistics::vacuum(&mut self.shared.nodes.connect_to_primary().await?).await
    }

    /// Finds the primary, migrates its schema, and starts to probe the servers.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] where no primary was found within 20 s, [`StoreError::TooNew`] where a newer version
    /// of this program has migrated the schema.
    pub async fn open(options: Options) -> Result<Self, StoreError> {
        let nodes = Nodes::new(options)?;
        let find = async {
            loop {
                match nodes.find_primary().await {
                    Ok(connection) => return connection,
                    Err(_) => sleep(START_INTERVAL).await,
                }
            }
        };

        let mut primary = timeout(START_TIMEOUT, find).await.map_err(|_| StoreError::Unreachable("primary"))?;
        let planner = Planner::new(schema::migrate(&mut primary).await?, nodes.options().thresholds);

        // The connection has nothing left to do; the server notices its end either way.
        let _ = primary.close().await;
        nodes.start();
        let first = nodes.primary(nodes.deadline()).await?;
        drop(first);

        let shared = StoreState {
            nodes,
            planner,
            shown: Mutex::default(),
            maintenance_status: Mutex::default(),
            writing: RwLock::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Waits until every server that answers has its minimum of connections open and warm, so that no client's
    /// statement is a connection's first; false where that takes more than 3 s. Cancel safe.
    pub async fn warmed(&self) -> bool {
        self.shared.nodes.warmed(WARM_TIMEOUT).await
    }

    /// The state of every server.
    pub fn status(&self) -> Vec<NodeStatus> {
        self.shared.nodes.status()
    }

    /// How the planner has answered reads so far.
    pub fn plan_counts(&self) -> PlanCounts {
        self.shared.planner.counters.counts()
    }

    /// Removes the events with these ids, at most a few hundred, on the operator's behalf.
    pub(super) async fn trim(&self, ids: Vec<EventId>) -> Result<Appended, StoreError> {
        self.write(PostgresWrite::Trim(ids)).await
    }

    /// Runs a write to its end even where the caller is dropped: an unknown outcome is worse than a late one.
    async fn write(&self, call: PostgresWrite) -> Result<Appended, StoreError> {
        let shared = self.shared.clone();
        let task = self.shared.nodes.options().tasks.spawn(Task::StoreWrite, async move {
            let _writing = shared.writing.read().await;
            shared.write(&call).await
        });
        let appended = task.await.unwrap_or(Err(StoreError::Closed))?;
        self.shared.show(appended.head);
        Ok(appended)
    }
}

impl StoreState {
    /// Writes on the primary. Where the primary is lost, begins again on the next one, for as long as a call may wait.
    /// Beginning again is safe: what the lost attempt committed is then a duplicate, or already removed.
    async fn write(&self, call: &PostgresWrite) -> Result<Appended, StoreError> {
        let mut deadline = self.nodes.deadline();
        // The server limits a statement, but not a commit that waits for a standby.
        let end = deadline + self.nodes.options().primary_statement_timeout.min(MAX_WRITE_TIME);
        let mut begun = false;

        loop {
            let mut lease = match self.nodes.primary(deadline).await {
                Err(StoreError::Unreachable(_)) if begun => return Err(StoreError::Unknown),
                lease => lease?,
            };
            let (connection, server) = lease.parts()?;
            let carried = timeout_at(end, call.run_on(connection, &self.planner, self.nodes.epoch()));
            let result = tokio::select! {
                biased;
                result = carried => result.unwrap_or(Err(StoreError::Unknown)),
                // The server has not answered, and another one was promoted: the outcome of the write is found out
                // there.
                () = self.nodes.superseded(server) => Err(StoreError::Unknown),
            };

            let result = match result {
                Ok(_) if self.nodes.was_superseded(&lease.server) => Err(StoreError::Unknown),
                result => result,
            };

            match result {
                Err(StoreError::Unknown) => {
                    lease.discard();
                    if !self.nodes.was_superseded(&lease.server) || Instant::now() >= end {
                        return Err(StoreError::Unknown);
                    }
                    tracing::warn!("another server was promoted during a write, which begins again there");
                    deadline = self.nodes.deadline().min(end);
                    begun = true;
                }
                Err(error)
                    if FailureClass::of(&error) == FailureClass::ReadOnly
                        && !write::is_standby(lease.parts()?.0).await =>
                {
                    tracing::error!(%error, "the primary takes no writes: see its setting default_transaction_read_only");
                    return Err(if begun { StoreError::Unknown } else { StoreError::ReadOnly });
                }
                Err(error) if matches!(FailureClass::of(&error), FailureClass::Gone | FailureClass::ReadOnly) => {
                    tracing::warn!(%error, "the primary was lost during a write");
                    lease.server.mark_down(&error);
                    lease.discard();
                    begun = true;
                }
                Err(error) if FailureClass::of(&error) == FailureClass::Busy && Instant::now() < deadline => {}
                result => {
                    lease.server.answered(result.as_ref().ok().map(|appended| appended.head));
                    return result;
                }
            }
        }
    }

    fn show(&self, head: Head) {
        let mut shown = self.shown.lock();
        if head.epoch != shown.epoch || head.position > shown.position {
            *shown = head;
        }
    }

    /// The least position of a read that names none itself. A position of a past epoch does not count, since that
    /// epoch's end may be lost.
    fn shown(&self) -> Position {
        let shown = *self.shown.lock();
        if self.nodes.epoch() == shown.epoch { shown.position } else { Position::default() }
    }
}

impl Store for PostgresStore {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        async { on_the_primary!(self.shared, |connection| lookup::head(connection)) }.boxed()
    }

    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        async move {
            let head = |known: &(Vec<bool>, Head)| Some(known.1);
            let (mut known, head) =
                on_a_server!(self.shared, at_least, |connection| lookup::known(connection, ids), head)?;
            if self.shared.nodes.is_past(head.epoch) {
                // A server of the past epoch may know ids that a failover has cut off: the write decides.
                known.fill(false);
            }
            Ok((known, head))
        }
        .boxed()
    }

    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.write(PostgresWrite::Append(batch, now)).boxed()
    }

    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        async move {
            let page = on_a_server!(
                self.shared,
                read.at_least,
                |connection| read::page(connection, &self.shared.planner, read),
                |page: &Page| Some(page.head)
            )?;
            self.shared.show(page.head);
            Ok(page)
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        // A server behind the one that named the ids may lack some of them.
        async move {
            let at_least = self.shared.shown();
            on_a_server!(self.shared, at_least, |connection| lookup::fetch(connection, ids), |_: &Vec<Row>| None)
        }
        .boxed()
    }

    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>> {
        async move {
            on_a_server!(
                self.shared,
                at_least,
                |connection| count::count(connection, &self.shared.planner, filters, access, now),
                |counted: &Counted| Some(counted.head)
            )
        }
        .boxed()
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        async { on_the_primary!(self.shared, |connection| lookup::now(connection)) }.boxed()
    }

    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.write(PostgresWrite::Sweep(now, max)).boxed()
    }

    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.write(PostgresWrite::Remove(filter.clone(), max)).boxed()
    }

    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.write(PostgresWrite::Vanish(vanish.clone(), max)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            // Waits for the writes under way.
            drop(self.shared.writing.write().await);
            self.shared.nodes.close().await;
        }
        .boxed()
    }
}

impl SharedLog for PostgresStore {
    fn shared_head(&self) -> BoxFuture<'_, Result<SharedHead, StoreError>> {
        async { on_the_primary!(self.shared, |connection| log::shared_head(connection)) }.boxed()
    }

    fn entries(&self, after: Position, max_changes: usize) -> BoxFuture<'_, Result<LogSlice, StoreError>> {
        async move { on_the_primary!(self.shared, |connection| log::entries(connection, after, max_changes)) }.boxed()
    }
}
