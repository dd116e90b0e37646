//! The primary's own counters: which statements take its time, and which indexes no statement uses. Also vacuums its
//! tables.

use super::error::translate;
use crate::store::StoreError;
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use std::time::Duration;

/// The longest that reading the statistics may take.
pub(super) const STATISTICS_TIMEOUT: Duration = Duration::from_secs(5);

/// Unused indexes of the relay's tables, partitions under their table's name. Indexes that guard uniqueness are needed
/// in any case.
const INDEXES: &str = r"
    SELECT coalesce(jsonb_agg(to_jsonb(i) ORDER BY i.bytes DESC), '[]')::text FROM (
        SELECT s.relname AS table, s.indexrelname AS index, pg_relation_size(s.indexrelid) AS bytes
          FROM pg_stat_user_indexes s JOIN pg_index x USING (indexrelid)
         WHERE s.idx_scan = 0 AND NOT x.indisunique) i";

/// The statements of this database that have taken most time. Their texts have no values.
const STATEMENTS: &str = r"
    SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.total_seconds DESC), '[]')::text FROM (
        SELECT left(query, 400) AS statement, calls, total_exec_time / 1000 AS total_seconds,
               mean_exec_time / 1000 AS mean_seconds, rows, shared_blks_hit AS hits, shared_blks_read AS reads
          FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
         ORDER BY total_exec_time DESC LIMIT 20) s";

/// `unused_indexes`, and `statements`, which is null where the server lacks the extension.
pub(super) async fn statistics(conn: &mut PgConnection) -> Result<Value, StoreError> {
    let unused = ask(conn, INDEXES).await?;
    let installed = "SELECT to_regclass('pg_stat_statements') IS NOT NULL \
        AND current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%'";
    let statements = match sqlx::query_scalar(installed).fetch_one(&mut *conn).await.map_err(translate)? {
        true => ask(conn, STATEMENTS).await?,
        false => Value::Null,
    };
    Ok(json!({ "unused_indexes": unused, "statements": statements }))
}

/// Brings the planner's statistics up to date and marks pages as all-visible, without which no index-only scan is one.
/// Autovacuum does so in time, but never analyses a partitioned table itself.
pub(super) async fn vacuum(conn: &mut PgConnection) -> Result<(), StoreError> {
    conn.execute("SET statement_timeout = 0").await.map_err(translate)?;
    conn.execute("VACUUM (ANALYZE) event, event_text, tag, address, tombstone").await.map_err(translate)?;
    Ok(())
}

async fn ask(conn: &mut PgConnection, sql: &'static str) -> Result<Value, StoreError> {
    let json: String = sqlx::query_scalar(sql).fetch_one(conn).await.map_err(translate)?;
    Ok(serde_json::from_str(&json).unwrap_or_default())
}
