//! Runs prepared statements, and reads the columns that several of them have.

use super::error::translate;
use super::plan::Statement;
use crate::store::StoreError;
use crate::types::{Epoch, EventId, Head, Position};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

/// Runs a statement, which stays prepared.
pub(super) async fn run(connection: &mut PgConnection, statement: &Statement) -> Result<Vec<PgRow>, StoreError> {
    let query = sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), statement.arguments());
    query.fetch_all(connection).await.map_err(translate)
}

/// The first two columns: epoch and position.
pub(super) fn head(row: &PgRow) -> Result<Head, sqlx::Error> {
    let number = |at| row.try_get::<i64, _>(at).map(i64::cast_unsigned);
    Ok(Head { epoch: Epoch(number(0)?), position: Position(number(1)?) })
}

/// Reads an id.
pub(super) fn event_id(bytes: &[u8]) -> Result<EventId, StoreError> {
    key_bytes(bytes).map(EventId::from_bytes)
}

/// Reads the 32 bytes of an id or of an author.
pub(super) fn key_bytes(bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Damaged(format!("a key of {} bytes", bytes.len())))
}
