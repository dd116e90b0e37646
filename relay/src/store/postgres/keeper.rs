//! The keeper: makes the coming partitions and drops the days of the log that nobody follows from any more. Every instance
//! has one; the one that holds a session's lock on the primary is elected, and the others ask for that lock now and
//! then. The lock ends with its session, and so does the term of an instance that dies.

use super::error::{Trouble, translate};
use super::nodes::Nodes;
use super::partitions;
use crate::store::StoreError;
use parking_lot::Mutex;
use sqlx::{Executor, PgConnection};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// What the elected one holds.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('keeper of the partitions', 0))";

/// What the keeper's session is like: its statements take what they take, and the server ends it some twenty seconds after
/// its machine has gone silent.
const SESSION: &str = "SET application_name = 'skein keeper'; SET statement_timeout = 0; \
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3";

/// A round that takes longer has lost its server.
const ROUND_TIMEOUT: Duration = Duration::from_secs(600);

/// What the keeper of this instance has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeeperStatus {
    /// It is the one that keeps.
    pub elected: bool,
    /// Partitions that it made.
    pub made: u64,
    /// Partitions that it dropped.
    pub dropped: u64,
    /// Rounds that failed; the next one tries again.
    pub failures: u64,
}

/// Keeps, round after round. Never ends. Dropping it ends this instance's term.
pub(super) async fn run(nodes: &Nodes, status: &Mutex<KeeperStatus>) {
    let mut ticks = interval(nodes.options().keeper_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut term: Option<PgConnection> = None;
    loop {
        ticks.tick().await;
        let round = timeout(ROUND_TIMEOUT, round(nodes, &mut term, status));
        let result = round.await.unwrap_or(Err(StoreError::Timeout));
        if let Err(error) = result {
            tracing::warn!(%error, "partitions could not be kept; the next round tries again");
            status.lock().failures += 1;
            if Trouble::of(&error) == Trouble::Gone || matches!(error, StoreError::Timeout) {
                term = None;
            }
        }
        status.lock().elected = term.is_some();
    }
}

async fn round(nodes: &Nodes, term: &mut Option<PgConnection>, status: &Mutex<KeeperStatus>) -> Result<(), StoreError> {
    if term.is_none() {
        *term = stand(nodes).await?;
    }
    let Some(connection) = term else { return Ok(()) };
    status.lock().elected = true;
    let prepared = partitions::prepare(connection).await?;
    if !prepared.made.is_empty() {
        tracing::info!(partitions = prepared.made.join(" "), "partitions were made ahead");
        status.lock().made += prepared.made.len() as u64;
        // Autovacuum never analyses a partitioned table itself.
        connection.execute("ANALYZE event_text").await.map_err(translate)?;
    }
    if !prepared.left.is_empty() {
        tracing::warn!(
            partitions = prepared.left.join(" "),
            "not made: the default partition has events of theirs and is too large to move them"
        );
    }
    let dropped = partitions::drop_log_days(connection, nodes.options().log_days).await?;
    if !dropped.is_empty() {
        tracing::info!(partitions = dropped.join(" "), "old days of the log were dropped");
        status.lock().dropped += dropped.len() as u64;
    }
    Ok(())
}

/// Stands for election; the session of its term, where this instance has won.
async fn stand(nodes: &Nodes) -> Result<Option<PgConnection>, StoreError> {
    let mut connection = nodes.connect_to_primary().await?;
    connection.execute(SESSION).await.map_err(translate)?;
    let elected: bool = sqlx::query_scalar(LOCK).fetch_one(&mut connection).await.map_err(translate)?;
    if elected {
        tracing::info!("this instance keeps the partitions");
    }
    Ok(elected.then_some(connection))
}
