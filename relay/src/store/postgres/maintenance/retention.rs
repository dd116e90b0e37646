//! Retention: events beyond it are removed in bounded batches that go through the log, so that every reader, cache and
//! follower applies the removals. Then a partition with the remaining rows replaces the month's partition. The current
//! version of each replaceable or addressable event stays, whatever its age, and so do deletion requests (kinds 5 and
//! 62). Tombstones and floors are in tables of their own.

use super::partitions::{prove_default_has_none, release_default_proof, with_lock_timeout};
use crate::config::KindRetention;
use crate::store::StoreError;
use crate::store::postgres::error::translate;
use crate::types::{EventId, Timestamp};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a read may hold a snapshot from before the copy; beyond that the month waits for the next round.
const OLD_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// Raised where the month has changed since it was copied.
const MONTH_CHANGED: &str = "SK001";

/// A month of texts that can be cut.
pub(super) struct Month {
    pub(super) name: String,
    from: i64,
    to: i64,
}

/// The first second that is kept: whole months are cut.
pub(super) async fn cutoff(conn: &mut PgConnection, months: u32) -> Result<Timestamp, StoreError> {
    let sql = "SELECT extract(epoch FROM date_trunc('month', now(), 'UTC') AT TIME ZONE 'UTC' - $1 * interval '1 month')::int8";
    sqlx::query_scalar(sql).bind(i64::from(months)).fetch_one(conn).await.map_err(translate)
}

/// Up to `max` events from before `cutoff` that need not stay, in the order of their time and beginning at `from`; and
/// the time of the last.
pub(super) async fn old(
    conn: &mut PgConnection,
    from: Timestamp,
    cutoff: Timestamp,
    max: i64,
) -> Result<(Vec<EventId>, Timestamp), StoreError> {
    // The kinds of the classes in `types::KindClass`.
    let sql = "SELECT id, created_at FROM event WHERE created_at >= $1 AND created_at < $2 \
                  AND NOT (kind IN (0, 3, 5, 62) OR kind BETWEEN 10000 AND 19999 OR kind BETWEEN 30000 AND 39999) \
                ORDER BY created_at, id DESC LIMIT $3";

    let rows = sqlx::query(sql).bind(from).bind(cutoff).bind(max).fetch_all(conn).await.map_err(translate)?;
    let mut ids = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = row.try_get::<[u8; 32], _>(0).map_err(translate)?;
        ids.push(EventId::from_bytes(id));
    }
    let last = rows.last().map_or(Ok(from), |row| row.try_get(1)).map_err(translate)?;
    Ok((ids, last))
}

/// Up to `max` events of the kinds of `rule` that are older than its days.
pub(super) async fn old_of_kinds(
    conn: &mut PgConnection,
    rule: &KindRetention,
    max: i64,
) -> Result<Vec<EventId>, StoreError> {
    // Goes from kind to kind through the index, so that kept kinds cost nothing.
    let sql = "WITH RECURSIVE present(kind) AS ( \
                   (SELECT kind FROM event WHERE kind BETWEEN $1 AND $2 ORDER BY kind LIMIT 1) \
                   UNION ALL \
                   SELECT (SELECT kind FROM event WHERE kind > p.kind AND kind <= $2 ORDER BY kind LIMIT 1) \
                     FROM present p WHERE p.kind IS NOT NULL) \
               SELECT e.id FROM present p CROSS JOIN LATERAL \
                   (SELECT id FROM event WHERE kind = p.kind AND created_at < extract(epoch FROM now())::int8 - $3 * 86400::int8 \
                     ORDER BY created_at, id DESC LIMIT $4) e \
                WHERE p.kind NOT IN (5, 62) LIMIT $4";

    let (first, last) = (i32::from(rule.kinds.start().0), i32::from(rule.kinds.end().0));
    let query = sqlx::query_scalar(sql).bind(first).bind(last).bind(i64::from(rule.days)).bind(max);
    let ids: Vec<[u8; 32]> = query.fetch_all(conn).await.map_err(translate)?;
    Ok(ids.into_iter().map(EventId::from_bytes).collect())
}

/// The months before `cutoff` that were not cut yet.
pub(super) async fn uncut(conn: &mut PgConnection, cutoff: Timestamp) -> Result<Vec<Month>, StoreError> {
    let sql = r"SELECT name, bounds[1]::int8, bounds[2]::int8 FROM (
                    SELECT c.relname::text AS name,
                           regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*)''\) TO \(''(.*)''\)') AS bounds
                      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                     WHERE i.inhparent = 'event_text'::regclass AND c.relname !~ '_(default|kept)$') m
                 WHERE bounds[2]::int8 <= $1 ORDER BY 1";
    let rows = sqlx::query(sql).bind(cutoff).fetch_all(conn).await.map_err(translate)?;
    let month =
        |row: &sqlx::postgres::PgRow| Ok(Month { name: row.try_get(0)?, from: row.try_get(1)?, to: row.try_get(2)? });
    rows.iter().map(month).collect::<Result<_, _>>().map_err(translate)
}

/// Replaces the partition of a month by one with its remaining rows, or by none where no row remains. `false` where
/// that has to wait: the month has changed meanwhile, or a read still has an older snapshot.
///
/// # Errors
/// [`StoreError::Locked`] where a lock was taken for seconds. Call again: nothing is half done.
pub(super) async fn cut(conn: &mut PgConnection, month: &Month) -> Result<bool, StoreError> {
    let Month { name, from, to } = month;
    let kept = format!("{name}_kept");
    let inside = format!("created_at >= {from} AND created_at < {to}");

    execute(conn, format!("DROP TABLE IF EXISTS {kept}")).await?;
    let like = "LIKE event_text INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES";
    execute(conn, format!("CREATE TABLE {kept} ({like}, CONSTRAINT keeper_{kept} CHECK ({inside}))")).await?;
    // One snapshot: a change after its position is not in the copy.
    let mut copy = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.map_err(translate)?;
    let position: i64 =
        sqlx::query_scalar("SELECT position FROM head").fetch_one(&mut *copy).await.map_err(translate)?;
    let xid: String =
        sqlx::query_scalar("SELECT pg_current_xact_id()::xid::text").fetch_one(&mut *copy).await.map_err(translate)?;
    let copied = copy.execute(AssertSqlSafe(format!("INSERT INTO {kept} SELECT * FROM {name}"))).await;
    let empty = copied.map_err(translate)?.rows_affected() == 0;
    copy.commit().await.map_err(translate)?;

    if !seen_by_all(conn, &xid).await? {
        execute(conn, format!("DROP TABLE {kept}")).await?;
        return Ok(false);
    }

    prove_default_has_none(conn, "event_text", &kept, "created_at", &from.to_string(), &to.to_string()).await?;
    let unchanged = format!(
        "DO $$ BEGIN IF EXISTS (SELECT FROM log l, unnest(l.created_ats) c(created_at) WHERE l.position > {position} AND {inside}) \
         THEN RAISE EXCEPTION 'the month has changed' USING ERRCODE = '{MONTH_CHANGED}'; END IF; END $$"
    );

    let replace = match empty {
        true => format!("DROP TABLE {kept}"),
        false => format!(
            "ALTER TABLE event_text ATTACH PARTITION {kept} FOR VALUES FROM ({from}) TO ({to}); \
             ALTER TABLE {kept} DROP CONSTRAINT keeper_{kept}"
        ),
    };

    let detach = format!("ALTER TABLE event_text DETACH PARTITION {name}");
    let done = with_lock_timeout(conn, &format!("{detach}; {unchanged}; {replace}; DROP TABLE {name}")).await;
    release_default_proof(conn, "event_text", &kept).await?;
    match done {
        Err(StoreError::Database(sqlx::Error::Database(error)))
            if error.code().is_some_and(|code| code == MONTH_CHANGED) =>
        {
            Ok(false)
        }
        done => done.map(|()| true),
    }
}

/// Waits until every read, on the primary and on replicas with `hot_standby_feedback`, has a snapshot from after this
/// transaction: with an older one it would find the copy empty.
async fn seen_by_all(conn: &mut PgConnection, xid: &str) -> Result<bool, StoreError> {
    let sql = "SELECT NOT EXISTS (SELECT FROM ( \
                   SELECT backend_xmin FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() \
                   UNION ALL SELECT backend_xmin FROM pg_stat_replication \
                   UNION ALL SELECT xmin FROM pg_replication_slots) s WHERE age(backend_xmin) >= age($1::xid))";

    let deadline = Instant::now() + OLD_SNAPSHOT_TIMEOUT;
    loop {
        if sqlx::query_scalar(sql).bind(xid).fetch_one(&mut *conn).await.map_err(translate)? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(PAUSE).await;
    }
}

async fn execute(conn: &mut PgConnection, sql: String) -> Result<(), StoreError> {
    conn.execute(AssertSqlSafe(sql)).await.map(drop).map_err(translate)
}
