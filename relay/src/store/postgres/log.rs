//! Reads the shared log on the primary (see [`crate::store::SharedLog`]).

use super::error::translate;
use crate::store::{LogSlice, SharedHead, StoreError};
use crate::types::{Change, Epoch, Event, Head, Insertion, LogEntry, Position, Removal, RemovalCause};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use std::sync::Arc;

/// The code of an insertion in the column `ops`.
pub(super) const INSERTED: i16 = 0;

/// The code of a removal in the column `ops`.
pub(super) fn op_of(cause: RemovalCause) -> i16 {
    match cause {
        RemovalCause::Replaced => 1,
        RemovalCause::Deleted => 2,
        RemovalCause::Expired => 3,
        RemovalCause::Administered => 4,
        RemovalCause::Vanished => 5,
    }
}

fn cause_of(op: i16) -> Result<RemovalCause, StoreError> {
    match op {
        1 => Ok(RemovalCause::Replaced),
        2 => Ok(RemovalCause::Deleted),
        3 => Ok(RemovalCause::Expired),
        4 => Ok(RemovalCause::Administered),
        5 => Ok(RemovalCause::Vanished),
        _ => Err(StoreError::Damaged(format!("the log has an operation {op}"))),
    }
}

/// See [`crate::store::SharedLog::shared_head`]. A promoted standby reports its own epoch only after the first write,
/// or after `write::settle`.
pub(super) async fn shared_head(conn: &mut PgConnection) -> Result<SharedHead, StoreError> {
    let query = sqlx::query("SELECT epoch, position, base, previous FROM head WHERE one");
    head(&query.fetch_one(conn).await.map_err(translate)?)
}

/// Reads the columns `epoch`, `position`, `base`, `previous`.
fn head(row: &PgRow) -> Result<SharedHead, StoreError> {
    let number = |at: usize| row.try_get::<i64, _>(at).map(i64::cast_unsigned).map_err(translate);
    let head = Head { epoch: Epoch(number(0)?), position: Position(number(1)?) };
    Ok(SharedHead { head, base: Position(number(2)?), previous: Epoch(number(3)?) })
}

/// See [`crate::store::SharedLog::entries`]. An entry leaves out an insertion whose event is no longer stored: its
/// removal follows in the log. So an entry may come without changes, and still takes its position.
///
/// # Errors
/// [`StoreError::OutOfReach`] where the entry right after `after` was trimmed; [`StoreError::Damaged`] where a position
/// between two entries is missing.
pub(super) async fn entries(
    conn: &mut PgConnection,
    after: Position,
    max_changes: usize,
) -> Result<LogSlice, StoreError> {
    let query = sqlx::query("SELECT epoch, head, base, previous, position, ops, texts FROM entries($1, $2)")
        .bind(after.0.cast_signed())
        .bind(i64::try_from(max_changes.max(1)).unwrap_or(i64::MAX));

    let rows = query.fetch_all(conn).await.map_err(translate)?;
    let first = rows.first().ok_or_else(|| StoreError::Damaged("the head is missing".into()))?;
    let mut slice = LogSlice { head: head(first)?, entries: Vec::with_capacity(rows.len()) };

    for row in &rows {
        let position = row.try_get::<Option<i64>, _>(4).map_err(translate)?.map(i64::cast_unsigned).map(Position);
        let expected = slice.entries.last().map_or(after, |entry| entry.position).next();
        match position {
            None if slice.head.head.position <= after => {}
            Some(position) if position == expected => {
                slice.entries.push(entry(position, row)?);
            }
            Some(_) if !slice.entries.is_empty() => {
                return Err(StoreError::Damaged(format!("the log lacks position {}", expected.0)));
            }
            _ => return Err(StoreError::OutOfReach),
        }
    }
    Ok(slice)
}

fn entry(position: Position, row: &PgRow) -> Result<LogEntry, StoreError> {
    let ops: Vec<i16> = row.try_get(5).map_err(translate)?;
    let texts: Vec<Option<String>> = row.try_get(6).map_err(translate)?;
    let mut changes = Vec::with_capacity(ops.len());
    let mut whole = true;
    for (op, text) in ops.into_iter().zip(texts) {
        let Some(text) = text else {
            whole = false;
            continue;
        };
        let event = Event::from_stored(&text).map_err(|error| StoreError::Damaged(error.to_string()))?;
        let event = Arc::new(event);
        changes.push(match op {
            INSERTED => Change::Inserted(Insertion::new(event)),
            op => Change::Removed(Removal { event, cause: cause_of(op)? }),
        });
    }
    Ok(LogEntry { whole, ..LogEntry::new(position, changes) })
}
