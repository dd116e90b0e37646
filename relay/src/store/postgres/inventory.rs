//! The list of partitions, for `relay partitions`.

use super::error::translate;
use crate::store::StoreError;
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, Row};

/// A partition of the texts or of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// The partitioned table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its first day, `YYYY-MM-DD`, UTC; `None` for the default partition, which has the rows outside all others.
    pub from: Option<String>,
    /// The day after its last.
    pub to: Option<String>,
    /// The server's estimate of its rows; `None` before the first vacuum.
    pub rows: Option<u64>,
    /// Bytes, with indexes and long values.
    pub bytes: u64,
}

/// The bounds of the texts are seconds, those of the log are times.
const SQL: &str = r"
    SELECT parent, name, day(1), day(2), rows, bytes
      FROM (SELECT p.relname::text AS parent, c.relname::text AS name, c.reltuples::int8 AS rows,
                   pg_total_relation_size(c.oid) AS bytes,
                   regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*)''\) TO \(''(.*)''\)') AS bounds
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
             WHERE i.inhparent IN ('event_text'::regclass, 'log'::regclass)) partitions
     ORDER BY parent, name";

/// Every partition of this server, by table and name.
pub(super) async fn partitions(conn: &mut PgConnection) -> Result<Vec<Partition>, StoreError> {
    let day = |bound: u8| {
        format!(
            "to_char(CASE parent WHEN 'log' THEN bounds[{bound}]::timestamptz \
             ELSE to_timestamp(bounds[{bound}]::int8) END AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
        )
    };
    let sql = SQL.replace("day(1)", &day(1)).replace("day(2)", &day(2));

    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(conn).await.map_err(translate)?;
    let partition = |row: &sqlx::postgres::PgRow| {
        Ok(Partition {
            table: row.try_get(0)?,
            name: row.try_get(1)?,
            from: row.try_get(2)?,
            to: row.try_get(3)?,
            rows: u64::try_from(row.try_get::<i64, _>(4)?).ok(),
            bytes: row.try_get::<i64, _>(5)?.unsigned_abs(),
        })
    };
    rows.iter().map(partition).collect::<Result<_, _>>().map_err(translate)
}
