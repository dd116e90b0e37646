//! Makes and drops partitions: the months of `event_text`, the days of `log`. Only the leader does so, and never within
//! a transaction of the writer.
//!
//! Attaching a partition locks the default partition, and dropping one locks the whole table. Behind a read that is
//! still running, such a lock would queue everybody (docs/decisions/0008). So each statement waits at most 100 ms for
//! its lock, and is tried again. What takes long is the proof that the default partition has no row of the new one; it
//! is done before, under a lock that blocks no other statement.

use crate::store::StoreError;
use crate::store::postgres::error::translate;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};
use std::time::Duration;

/// How often a statement is tried whose lock is taken.
const LOCK_ATTEMPTS: u32 = 50;
/// Between two tries: long enough for the statements that have queued meanwhile.
const PAUSE: Duration = Duration::from_millis(100);
/// check_violation.
const CHECK_VIOLATION: &str = "23514";

/// How many days and months ahead partitions are made.
const AHEAD: u32 = 3;

/// A range that gets a partition.
struct PartitionRange {
    /// The partitioned table.
    table: String,
    /// The name of the partition.
    name: String,
    /// The column of the partition key.
    column: String,
    /// The bounds, as SQL; the second is excluded.
    from: String,
    to: String,
    /// The table's `WITH` clause.
    settings: String,
}

/// The largest default partition, in bytes, that is read under a lock: some hundredths of a second.
const MAX_MOVED_BYTES: i64 = 32 << 20;

/// What [`prepare`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::store::postgres) struct Prepared {
    /// The partitions that were made. Rows of theirs in the default partition have moved in.
    pub(in crate::store::postgres) made: Vec<String>,
    /// The partitions that were not made: the default partition has rows of theirs, and is too large to be locked while
    /// these move. Those rows, and later ones, stay there.
    pub(in crate::store::postgres) left: Vec<String>,
}

/// Makes the missing partitions of the coming months and days. The present month and day, where they were missed, are
/// left to the default partition.
///
/// # Errors
/// [`StoreError::Locked`] where a lock was taken for seconds. Call again: nothing is half done.
pub(in crate::store::postgres) async fn prepare(conn: &mut PgConnection) -> Result<Prepared, StoreError> {
    let mut prepared = Prepared::default();
    drop_leftover_constraints(conn).await?;
    for range in missing(conn).await? {
        let PartitionRange { table, name, column, from, to, settings } = &range;
        conn.execute(AssertSqlSafe(format!("DROP TABLE IF EXISTS {name}"))).await.map_err(translate)?;
        let like = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES";
        conn.execute(AssertSqlSafe(format!("CREATE TABLE {name} (LIKE {table} {like}) {settings}")))
            .await
            .map_err(translate)?;

        // The range is in the future, so no row of it comes in before the partition is attached.
        let empty = prove_default_has_none(conn, table, name, column, from, to).await?;
        let attach = format!("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})");
        if empty {
            with_lock_timeout(conn, &attach).await?;
        } else if default_size(conn, table).await? <= MAX_MOVED_BYTES {
            // One transaction: a reader finds each row where it was or where it goes.
            let moved = format!("DELETE FROM {table}_default WHERE {column} >= {from} AND {column} < {to} RETURNING *");
            let lock = format!("LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE");
            let fill = format!("WITH moved AS ({moved}) INSERT INTO {name} SELECT * FROM moved");
            with_lock_timeout(conn, &format!("{lock}; {fill}; {attach}")).await?;
        } else {
            conn.execute(AssertSqlSafe(format!("DROP TABLE {name}"))).await.map_err(translate)?;
            release_default_proof(conn, table, name).await?;
            prepared.left.push(name.clone());
            continue;
        }
        release_default_proof(conn, table, name).await?;
        prepared.made.push(name.clone());
    }
    Ok(prepared)
}

/// Proves that the default partition has no row of a range, and keeps it so until [`release_default_proof`]: then
/// attaching need not look. `false` where it has such rows.
pub(super) async fn prove_default_has_none(
    conn: &mut PgConnection,
    table: &str,
    name: &str,
    column: &str,
    from: &str,
    to: &str,
) -> Result<bool, StoreError> {
    let check = format!("CHECK ({column} < {from} OR {column} >= {to}) NOT VALID");
    let default = format!("ALTER TABLE {table}_default");
    with_lock_timeout(conn, &format!("{default} ADD CONSTRAINT keeper_{name} {check}")).await?;
    match conn.execute(AssertSqlSafe(format!("{default} VALIDATE CONSTRAINT keeper_{name}"))).await {
        Ok(_) => Ok(true),
        Err(error) if error.as_database_error().and_then(|e| e.code()).is_some_and(|c| c == CHECK_VIOLATION) => {
            Ok(false)
        }
        Err(error) => Err(translate(error)),
    }
}

/// Undoes [`prove_default_has_none`].
pub(super) async fn release_default_proof(conn: &mut PgConnection, table: &str, name: &str) -> Result<(), StoreError> {
    with_lock_timeout(conn, &format!("ALTER TABLE {table}_default DROP CONSTRAINT keeper_{name}")).await
}

/// Bytes of the default partition's rows.
async fn default_size(conn: &mut PgConnection, table: &str) -> Result<i64, StoreError> {
    let sql = "SELECT pg_table_size(($1 || '_default')::regclass)";
    sqlx::query_scalar(sql).bind(table).fetch_one(conn).await.map_err(translate)
}

/// Drops the days of the log that ended more than `days` days ago; returns their names. A follower that still needs
/// them finds the log out of reach.
///
/// # Errors
/// [`StoreError::Locked`] where a lock was taken for seconds. Call again for the rest.
pub(in crate::store::postgres) async fn drop_log_days(
    conn: &mut PgConnection,
    days: u32,
) -> Result<Vec<String>, StoreError> {
    // The default partition has the days whose partition was not made in time.
    let sql = "DELETE FROM log_default WHERE at < date_trunc('day', now(), 'UTC') - $1 * interval '1 day'";
    sqlx::query(sql).bind(i64::from(days)).execute(&mut *conn).await.map_err(translate)?;

    let sql = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                WHERE i.inhparent = 'log'::regclass AND c.relname <> 'log_default' \
                  AND to_date(right(c.relname, 10), 'YYYY_MM_DD') < (now() AT TIME ZONE 'UTC')::date - $1::int4 \
                ORDER BY 1";
    let query = sqlx::query_scalar(sql).bind(i32::try_from(days).unwrap_or(i32::MAX));
    let old: Vec<String> = query.fetch_all(&mut *conn).await.map_err(translate)?;

    for name in &old {
        with_lock_timeout(conn, &format!("DROP TABLE {name}")).await?;
    }
    Ok(old)
}

/// Removes the constraints of a leader that was interrupted.
async fn drop_leftover_constraints(conn: &mut PgConnection) -> Result<(), StoreError> {
    let sql = "SELECT conrelid::regclass::text, conname::text FROM pg_constraint \
                WHERE conname LIKE 'keeper\\_%' AND conrelid IN ('event_text_default'::regclass, 'log_default'::regclass)";
    for row in sqlx::query(sql).fetch_all(&mut *conn).await.map_err(translate)? {
        let (table, name): (String, String) =
            row.try_get(0).and_then(|table| Ok((table, row.try_get(1)?))).map_err(translate)?;
        with_lock_timeout(conn, &format!("ALTER TABLE {table} DROP CONSTRAINT {name}")).await?;
    }
    Ok(())
}

/// The coming ranges without a partition.
async fn missing(conn: &mut PgConnection) -> Result<Vec<PartitionRange>, StoreError> {
    let sql = "WITH t(utc) AS (SELECT now() AT TIME ZONE 'UTC'), wanted AS ( \
                   SELECT 'event_text' AS parent, to_char(f, '\"event_text_\"YYYY_MM') AS name, 'created_at' AS col, \
                          extract(epoch FROM f)::int8::text AS f, \
                          extract(epoch FROM f + interval '1 month')::int8::text AS u, \
                          'WITH (autovacuum_analyze_threshold = 2147483647)' AS settings \
                     FROM t, generate_series(date_trunc('month', utc) + interval '1 month', \
                                             utc + $1 * interval '1 month', '1 month') f \
                   UNION ALL \
                   SELECT 'log', to_char(f, '\"log_\"YYYY_MM_DD'), 'at', quote_literal(f AT TIME ZONE 'UTC') || '::timestamptz', \
                          quote_literal((f + interval '1 day') AT TIME ZONE 'UTC') || '::timestamptz', \
                          'WITH (autovacuum_analyze_threshold = 2147483647, autovacuum_vacuum_insert_threshold = -1)' \
                     FROM t, generate_series(date_trunc('day', utc) + interval '1 day', \
                                             utc + $1 * interval '1 day', '1 day') f) \
               SELECT parent, name, col, f, u, settings FROM wanted w WHERE NOT EXISTS ( \
                   SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                    WHERE i.inhparent = w.parent::regclass AND c.relname = w.name) ORDER BY name";

    let rows = sqlx::query(sql).bind(i64::from(AHEAD)).fetch_all(conn).await.map_err(translate)?;
    let text = |row: &sqlx::postgres::PgRow, at: usize| row.try_get::<String, _>(at).map_err(translate);
    let range = |row| {
        Ok(PartitionRange {
            table: text(row, 0)?,
            name: text(row, 1)?,
            column: text(row, 2)?,
            from: text(row, 3)?,
            to: text(row, 4)?,
            settings: text(row, 5)?,
        })
    };
    rows.iter().map(range).collect()
}

/// Runs a statement whose lock blocks others, without delaying anybody for long.
pub(super) async fn with_lock_timeout(conn: &mut PgConnection, sql: &str) -> Result<(), StoreError> {
    for _ in 0..LOCK_ATTEMPTS {
        // One message is one transaction, to which the setting is confined.
        let done = conn.execute(AssertSqlSafe(format!("SET LOCAL lock_timeout = '100ms'; {sql}"))).await;
        match done.map_err(translate) {
            Err(StoreError::Locked) => tokio::time::sleep(PAUSE).await,
            done => return done.map(drop),
        }
    }
    Err(StoreError::Locked)
}
