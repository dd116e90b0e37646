//! The schema and its migrations, and the secret under which a database hashes.

use super::error::translate;
use crate::store::StoreError;
use crate::store::hash::Hasher;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Executor, Row};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// For sessions whose statements take what they take (waiting for another instance, building an index), but whose server
/// ends them within seconds once nobody waits for them any more, even where they wait for a lock: others wait for theirs.
pub(super) const UNHURRIED: &str = "SET statement_timeout = 0; SET client_connection_check_interval = '1s'; \
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3";

/// Brings the schema of a primary up to date: one instance at a time, the others wait for it. Close the connection
/// after an error: it may still hold the lock.
///
/// # Errors
/// [`StoreError::TooNew`] where a newer version of this program has been here.
pub(super) async fn migrate(conn: &mut PgConnection) -> Result<Hasher, StoreError> {
    conn.execute(sqlx::raw_sql(UNHURRIED)).await.map_err(translate)?;
    // Not `run`: its future is not known to be `Send`.
    MIGRATIONS.run_direct(None, &mut *conn, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > known() => StoreError::TooNew { found, known: known() },
        MigrateError::Execute(error) => translate(error),
        error => StoreError::Database(error.into()),
    })?;
    conn.execute("RESET statement_timeout").await.map_err(translate)?;
    hasher(conn).await
}

/// The hashes of a database that has its schema, be it a primary or a standby.
///
/// # Errors
/// [`StoreError::TooNew`] where a newer version of this program has been here.
pub(super) async fn hasher(conn: &mut PgConnection) -> Result<Hasher, StoreError> {
    let sql = "SELECT secret, bits, (SELECT max(version) FROM _sqlx_migrations) FROM hashing";
    let row = sqlx::query(sql).fetch_one(conn).await.map_err(translate)?;
    let found: i64 = row.try_get(2).map_err(translate)?;
    if found > known() {
        return Err(StoreError::TooNew { found, known: known() });
    }
    let bits: i32 = row.try_get(1).map_err(translate)?;
    Ok(Hasher::new(row.try_get(0).map_err(translate)?, bits.unsigned_abs()))
}

/// The last migration of this program.
fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}
