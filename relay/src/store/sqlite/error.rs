//! Translates SQLite's result codes into the store's errors.

use crate::store::StoreError;

/// The primary result codes that have an error of their own (sqlite.org/rescode.html).
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const INTERRUPT: i32 = 9;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const NOT_A_DATABASE: i32 = 26;

/// Translates an error of sqlx.
pub(super) fn translate(error: sqlx::Error) -> StoreError {
    let code = match &error {
        sqlx::Error::Database(database) => database.code().and_then(|code| code.parse::<i32>().ok()),
        sqlx::Error::WorkerCrashed => return StoreError::Closed,
        _ => None,
    };
    // The low byte of an extended code is the primary code.
    match code.map(|code| code & 0xff) {
        Some(BUSY | LOCKED) => StoreError::Locked,
        Some(INTERRUPT) => StoreError::Timeout,
        Some(FULL) => StoreError::Full,
        Some(CORRUPT | NOT_A_DATABASE) => StoreError::Damaged(error.to_string()),
        _ => StoreError::Database(error),
    }
}
