//! Maintenance: makes the coming partitions, drops old days of the log, and removes events beyond the retention. Every
//! instance runs it, and one of them is the leader: the one whose session holds an advisory lock on the primary. The
//! others try to take that lock now and then. The lock ends with its session, so an instance that dies is leader no
//! longer.

pub(super) mod partitions;
mod retention;
mod status;

pub use status::MaintenanceStatus;

use super::error::{FailureClass, translate};
use super::nodes::Nodes;
use super::schema;
use super::store::PostgresStore;
use crate::config::KindRetention;
use crate::store::StoreError;
use parking_lot::Mutex;
use sqlx::{Executor, PgConnection};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Takes the leader's lock. Its name stays, since instances of two versions must elect one leader.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('keeper of the partitions', 0))";

/// The name of the leader's session in `pg_stat_activity`.
const NAME: &str = "SET application_name = 'skein keeper'";

/// Old events that one entry of the log removes, and how many such entries a round writes. The rest waits for the next
/// round, so that retention never takes the database for itself.
const BATCH: i64 = 500;
const BATCHES: usize = 100;

/// A round that takes longer has lost its server.
const ROUND_TIMEOUT: Duration = Duration::from_secs(600);

impl PostgresStore {
    /// Maintains the partitions whenever this instance is the leader: makes the coming ones, drops old days of the log,
    /// and removes events beyond the retention. Never ends: run it as one task, and drop it before the store is closed.
    /// Dropping it ends the leader's session.
    pub async fn run_maintenance(&self) {
        run(self, &self.shared.nodes, &self.shared.maintenance_status).await;
    }

    /// What [`run_maintenance`](Self::run_maintenance) has done so far.
    pub fn maintenance_status(&self) -> MaintenanceStatus {
        *self.shared.maintenance_status.lock()
    }
}

/// Maintains, round after round.
async fn run(store: &PostgresStore, nodes: &Nodes, status: &Mutex<MaintenanceStatus>) {
    let mut ticks = interval(nodes.options().maintenance_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leader_session: Option<PgConnection> = None;
    let mut timeline = nodes.timeline();
    loop {
        ticks.tick().await;
        if timeline != nodes.timeline() {
            // Another server is the primary now. The old one may still hold this instance's lock, which means nothing
            // any more.
            (timeline, leader_session) = (nodes.timeline(), None);
        }
        let round = timeout(ROUND_TIMEOUT, round(store, nodes, &mut leader_session, status));
        let result = round.await.unwrap_or(Err(StoreError::Timeout));
        if let Err(error) = result {
            tracing::warn!(%error, "partitions could not be kept; the next round tries again");
            status.lock().failures += 1;
            if FailureClass::of(&error) == FailureClass::Gone || matches!(error, StoreError::Timeout) {
                leader_session = None;
            }
        }
        status.lock().elected = leader_session.is_some();
    }
}

async fn round(
    store: &PostgresStore,
    nodes: &Nodes,
    leader_session: &mut Option<PgConnection>,
    status: &Mutex<MaintenanceStatus>,
) -> Result<(), StoreError> {
    if leader_session.is_none() {
        *leader_session = try_become_leader(nodes).await?;
    }
    let Some(connection) = leader_session else { return Ok(()) };
    status.lock().elected = true;

    let prepared = partitions::prepare(connection).await?;
    if !prepared.made.is_empty() {
        tracing::info!(partitions = prepared.made.join(" "), "partitions were made ahead");
        status.lock().made += prepared.made.len() as u64;
        // Autovacuum never analyses a partitioned table itself.
        connection.execute("ANALYZE event_text").await.map_err(translate)?;
    }

    status.lock().missing = prepared.left.len() as u64;
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

    for rule in &nodes.options().retention_kinds {
        retain_kinds(store, connection, rule, status).await?;
    }
    match nodes.options().retention_months {
        0 => Ok(()),
        months => retain(store, connection, months, status).await,
    }
}

/// Removes the events that a rule for some kinds no longer keeps.
async fn retain_kinds(
    store: &PostgresStore,
    connection: &mut PgConnection,
    rule: &KindRetention,
    status: &Mutex<MaintenanceStatus>,
) -> Result<(), StoreError> {
    let mut removed = 0;
    for _ in 0..BATCHES {
        let ids = retention::old_of_kinds(connection, rule, BATCH).await?;
        if ids.is_empty() {
            break;
        }
        removed += store.trim(ids).await?.changes.len() as u64;
    }
    if removed > 0 {
        let KindRetention { kinds, days } = rule;
        tracing::info!(
            removed,
            first = kinds.start().0,
            last = kinds.end().0,
            days,
            "kinds beyond their days were removed"
        );
        status.lock().removed += removed;
    }
    Ok(())
}

/// Removes the events older than `months` months, then cuts those months.
async fn retain(
    store: &PostgresStore,
    connection: &mut PgConnection,
    months: u32,
    status: &Mutex<MaintenanceStatus>,
) -> Result<(), StoreError> {
    let cutoff = retention::cutoff(connection, months).await?;
    let (mut from, mut removed) = (0, 0);
    for _ in 0..BATCHES {
        let (ids, last) = retention::old(connection, from, cutoff, BATCH).await?;
        if ids.is_empty() {
            break;
        }
        from = last;
        removed += store.trim(ids).await?.changes.len();
    }

    if removed > 0 {
        tracing::info!(removed, cutoff, "events beyond the retention were removed");
        status.lock().removed += removed as u64;
    }
    // An event of that time may have come in behind the last batch. It goes in the next round, and its month after it.
    if !retention::old(connection, 0, cutoff, 1).await?.0.is_empty() {
        return Ok(());
    }

    for month in retention::uncut(connection, cutoff).await? {
        if retention::cut(connection, &month).await? {
            tracing::info!(partition = %month.name, "a month beyond the retention was cut to what stays");
            status.lock().dropped += 1;
        }
    }
    Ok(())
}

/// Tries to take the leader's lock; returns the session that holds it.
async fn try_become_leader(nodes: &Nodes) -> Result<Option<PgConnection>, StoreError> {
    let mut connection = nodes.connect_to_primary().await?;
    connection.execute(NAME).await.map_err(translate)?;
    connection.execute(schema::UNLIMITED_SESSION).await.map_err(translate)?;
    let elected: bool = sqlx::query_scalar(LOCK).fetch_one(&mut connection).await.map_err(translate)?;
    if elected {
        tracing::info!("this instance keeps the partitions");
    }
    Ok(elected.then_some(connection))
}
