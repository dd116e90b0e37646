//! Looks events up by id; the head alone, and the server's time.

use super::error::translate;
use super::rows;
use crate::store::StoreError;
use crate::types::{EventId, Head, Key, Row, Timestamp};
use rustc_hash::FxHashSet;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

/// The head of the log.
pub(super) async fn head(connection: &mut PgConnection) -> Result<Head, StoreError> {
    let row = sqlx::query("SELECT epoch, position FROM head").fetch_one(connection).await.map_err(translate)?;
    rows::head(&row).map_err(translate)
}

/// The present second by the server's clock.
pub(super) async fn now(connection: &mut PgConnection) -> Result<Timestamp, StoreError> {
    let query = sqlx::query_scalar("SELECT floor(extract(epoch FROM clock_timestamp()))::int8");
    query.fetch_one(connection).await.map_err(translate)
}

/// For each id, in order, whether it is stored, and the head as of which that holds.
pub(super) async fn known(connection: &mut PgConnection, ids: &[EventId]) -> Result<(Vec<bool>, Head), StoreError> {
    // LIMIT keeps the planner at one index probe for each id.
    let query = sqlx::query(
        "SELECT h.epoch, h.position, e.id FROM head h LEFT JOIN (SELECT e.id FROM unnest($1::bytea[]) j(id) \
         CROSS JOIN LATERAL (SELECT e.id FROM event e WHERE e.id = j.id LIMIT 1) e) e ON true",
    );

    let rows = query.bind(bytes(ids)).fetch_all(connection).await.map_err(translate)?;
    let first = rows.first().ok_or_else(|| StoreError::Damaged("the log has no head".into()))?;
    let head = rows::head(first).map_err(translate)?;

    let mut found = FxHashSet::default();
    for row in &rows {
        found.extend(row.try_get::<Option<&[u8]>, _>(2).map_err(translate)?.map(rows::event_id).transpose()?);
    }
    Ok((ids.iter().map(|id| found.contains(id)).collect(), head))
}

/// The rows of the stored ones of `ids`, in any order.
pub(super) async fn fetch(connection: &mut PgConnection, ids: &[EventId]) -> Result<Vec<Row>, StoreError> {
    let query = sqlx::query(
        "SELECT x.id, x.created_at, x.expires_at, x.text FROM (SELECT array_agg(e.id) AS keys, \
         array_agg(e.created_at) AS times, array_agg(e.expires_at) AS expiries, min(e.created_at) AS earliest, \
         max(e.created_at) AS latest FROM (SELECT DISTINCT id FROM unnest($1::bytea[]) j(id)) j \
         CROSS JOIN LATERAL (SELECT e.* FROM event e WHERE e.id = j.id LIMIT 1) e) k \
         CROSS JOIN LATERAL texts(k.keys, k.times, k.expiries, k.earliest, k.latest, $2::int8) x",
    );
    let rows = query.bind(bytes(ids)).bind(i64::MAX).fetch_all(connection).await.map_err(translate)?;

    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = rows::event_id(row.try_get(0).map_err(translate)?)?;
        let key = Key { id, created_at: row.try_get(1).map_err(translate)? };
        let text: &str = row.try_get(3).map_err(translate)?;
        found.push(Row { key, expires_at: row.try_get(2).map_err(translate)?, text: text.into() });
    }
    Ok(found)
}

fn bytes(ids: &[EventId]) -> Vec<&[u8; 32]> {
    ids.iter().map(EventId::as_bytes).collect()
}
