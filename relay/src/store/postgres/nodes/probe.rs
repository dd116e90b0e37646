//! The prober: asks one server for its state again and again, on a connection of its own, so that neither a full pool
//! nor a quiet hour hides a change.

use super::super::error::translate;
use super::super::write;
use super::NodesState;
use super::node::{Node, ProbeResult};
use super::role::Role;
use crate::store::StoreError;
use crate::telemetry::Task;
use crate::types::{Epoch, Head, Position};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{ConnectOptions, Connection, Row};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The application name by which instances count each other: each has one such connection to each server.
const PROBE: &str = "skein probe";

/// Whether the server is a replica, and else its timeline: the first digits of the name of the WAL file that it writes.
const ROLE: &str = "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN 0 ELSE \
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int4 END";
const STATE: &str = "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN 0 ELSE \
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int4 END, epoch, position FROM head";
/// The cluster's system identifier; the connections for roles like this one; the number of instances.
const IDENTIFY: &str = "SELECT (SELECT system_identifier FROM pg_control_system()), \
    current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8, \
    (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'skein probe')";

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
enum ProbeFailure {
    #[error("it does not answer in time")]
    Silent,
    #[error("it belongs to another cluster than the other servers")]
    Foreign,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Opens a connection for probes.
async fn connect(options: &PgConnectOptions, limit: std::time::Duration) -> Result<PgConnection, ProbeFailure> {
    let millis = limit.as_millis().to_string();
    let options = options.clone().application_name(PROBE).options([("statement_timeout", &millis)]);
    Ok(timeout(limit, options.connect()).await.map_err(|_| ProbeFailure::Silent)??)
}

/// Probes `node` until the store is closed.
pub(super) async fn run(shared: Arc<NodesState>, node: Arc<Node>) {
    let mut ticks = interval(shared.options.probe_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.probe_now.notified() => ticks.reset(),
        }
        match probe(&shared, &node, &mut connection).await {
            Ok(probed) => {
                let (epoch, lag) = {
                    let newest = shared.timeline.fetch_max(probed.timeline, Ordering::AcqRel);
                    let mut history = shared.history.lock();
                    let epoch = history.epoch();
                    if probed.role == Role::Primary && probed.timeline >= newest {
                        history.note(probed.head, Instant::now(), shared.options.max_replica_lag * 2);
                    }
                    (epoch, history.lag(probed.head))
                };
                if let Some(pool) = node.seen(probed, lag, &shared.options) {
                    if probed.role == Role::Primary {
                        shared.options.tasks.spawn(Task::Pool, settle(node.clone(), pool.clone(), epoch));
                    }
                    shared.options.tasks.spawn(Task::Pool, open(shared.clone(), node.clone(), pool));
                }
                node.shrink(&shared.options);
            }
            Err(why) => {
                connection = None;
                node.lost(&why);
            }
        }
        shared.changed.send_modify(|looks| *looks = looks.wrapping_add(1));
    }
}

/// Opens the connections of a new pool, and tells the calls that wait for that.
async fn open(shared: Arc<NodesState>, node: Arc<Node>, pool: PgPool) {
    node.open(pool).await;
    shared.changed.send_modify(|looks| *looks = looks.wrapping_add(1));
}

/// Makes a promoted primary begin an epoch of its own. The first write would do that, too; this is for a relay that
/// waits to learn what the failover has cut off. `epoch` is the last known one.
async fn settle(node: Arc<Node>, pool: PgPool, epoch: Epoch) {
    let settled = async {
        let mut connection = pool.acquire().await.map_err(translate)?;
        write::settle(&mut connection, epoch).await
    };
    let settled = pool.close_event().do_until(settled).await.unwrap_or_else(|lost| Err(lost.into()));
    // The new primary's epoch is needed soon.
    node.probe_now.notify_one();
    match settled {
        Ok(head) if head.epoch != epoch && epoch != Epoch::default() => {
            tracing::warn!(node = %node.name, position = head.position.0, "another primary: the log begins a new epoch");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(node = %node.name, %error, "a new primary could not be settled; the first write does it")
        }
    }
}

async fn probe(
    shared: &NodesState,
    node: &Node,
    connection: &mut Option<PgConnection>,
) -> Result<ProbeResult, ProbeFailure> {
    let limit = shared.options.connect_timeout;
    let (asked, greet) = match connection {
        Some(connection) => (connection, false),
        none => (none.insert(connect(&node.connect, limit).await?), true),
    };
    let row = timeout(limit, sqlx::query(STATE).fetch_one(&mut *asked)).await.map_err(|_| ProbeFailure::Silent)??;
    let (role, timeline) = role(&row)?;
    let number = |at: usize| row.try_get::<i64, _>(at).map(i64::cast_unsigned);
    let head = Head { epoch: Epoch(number(2)?), position: Position(number(3)?) };
    if greet {
        let row = timeout(limit, sqlx::query(IDENTIFY).fetch_one(asked)).await.map_err(|_| ProbeFailure::Silent)??;
        if *shared.cluster.lock().get_or_insert(row.try_get(0)?) != row.try_get::<i64, _>(0)? {
            return Err(ProbeFailure::Foreign);
        }
        warn_if_crowded(shared, node, role, row.try_get(1)?, row.try_get(2)?);
    }
    Ok(ProbeResult { role, timeline, head })
}

fn role(row: &sqlx::postgres::PgRow) -> Result<(Role, u32), sqlx::Error> {
    let role = if row.try_get(0)? { Role::Replica } else { Role::Primary };
    Ok((role, row.try_get::<i32, _>(1)?.cast_unsigned()))
}

/// Warns where the pools of all instances together may open more connections than the server gives.
fn warn_if_crowded(shared: &NodesState, node: &Node, role: Role, available: i64, seen: i64) {
    let options = &shared.options;
    let pool = match role {
        Role::Primary => options.primary_connections,
        _ => options.replica_connections,
    };
    let instances = if options.instances == 0 { seen.max(1) } else { i64::from(options.instances) };

    // One more for the prober.
    let wanted = instances.saturating_mul(i64::from(pool.max) + 1);
    if wanted > available {
        tracing::warn!(
            node = %node.name,
            instances,
            "the pools of all instances may open {wanted} connections, but the server gives {available}: lower the \
             pool sizes in [postgres] or raise its max_connections"
        );
    }
}

/// A connection to the present primary, and its timeline, before any prober runs.
///
/// # Errors
/// [`StoreError::Unreachable`] where no server claims to be one; the answer of each is logged.
pub(super) async fn find_primary(
    nodes: &[Arc<Node>],
    limit: std::time::Duration,
) -> Result<(u32, PgConnection), StoreError> {
    let mut found: Option<(u32, PgConnection)> = None;
    for node in nodes {
        let asked = async {
            let mut connection = connect(&node.connect, limit).await?;
            let row = timeout(limit, sqlx::query(ROLE).fetch_one(&mut connection)).await;
            let (role, timeline) = role(&row.map_err(|_| ProbeFailure::Silent)??)?;
            Ok::<_, ProbeFailure>((role, timeline, connection))
        };
        match asked.await {
            Ok((Role::Primary, timeline, connection)) if found.as_ref().is_none_or(|(best, _)| *best < timeline) => {
                found = Some((timeline, connection));
            }
            Ok((.., connection)) => drop(connection.close().await),
            Err(why) => tracing::warn!(node = %node.name, %why, "a database server cannot be asked"),
        }
    }
    found.ok_or(StoreError::Unreachable("primary"))
}
