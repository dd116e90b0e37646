//! The schema, its migrations, and the database's hash secret.

use super::error::translate;
use crate::store::StoreError;
use crate::store::hash::Hasher;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// For a session with statements of any length, which wait for another instance or build an index. Once the client is
/// gone, the server ends such a statement within seconds, even while it waits for a lock that others wait for as well.
pub(super) const UNLIMITED_SESSION: &str = "SET statement_timeout = 0; SET client_connection_check_interval = '1s'; \
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3";

/// Migrates the schema of a primary; one instance at a time does so, and the others wait. Close the connection after an
/// error: it may still hold the lock.
///
/// # Errors
/// [`StoreError::TooNew`] where a newer version of this program has migrated the schema.
pub(super) async fn migrate(conn: &mut PgConnection) -> Result<Hasher, StoreError> {
    conn.execute(sqlx::raw_sql(UNLIMITED_SESSION)).await.map_err(translate)?;
    // `run` would not do: its future is not known to be `Send`.
    MIGRATIONS.run_direct(None, &mut *conn, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > known() => StoreError::TooNew { found, known: known() },
        MigrateError::Execute(error) => translate(error),
        error => StoreError::Database(error.into()),
    })?;
    let hasher = hasher(conn).await?;
    file_empty_identifiers(conn, &hasher).await?;
    conn.execute("RESET statement_timeout").await.map_err(translate)?;
    Ok(hasher)
}

/// How many events one transaction files. Writers wait for it: it holds the lock on `head`.
const FILING_BATCH: usize = 500;

/// Files the addressable events that are stored without a `d` tag under the empty identifier, once. Two instances that
/// do so at the same time do the same.
async fn file_empty_identifiers(conn: &mut PgConnection, hasher: &Hasher) -> Result<(), StoreError> {
    let filed = sqlx::query_scalar("SELECT empty_identifiers_filed FROM hashing").fetch_one(&mut *conn).await;
    if filed.map_err(translate)? {
        return Ok(());
    }
    let mut transaction = conn.begin().await.map_err(translate)?;
    // The gate waits for the writes that run now, which may not see the hash; every later write sees it.
    sqlx::query("SELECT hold_the_gate()").execute(&mut *transaction).await.map_err(translate)?;
    let note = sqlx::query("UPDATE hashing SET empty_identifier = $1").bind(hasher.tag(b'd', ""));
    note.execute(&mut *transaction).await.map_err(translate)?;
    transaction.commit().await.map_err(translate)?;

    let unfiled = sqlx::query_as::<_, (Vec<u8>, i64)>("SELECT id, created_at FROM unfiled_identifiers()");
    let unfiled = unfiled.fetch_all(&mut *conn).await.map_err(translate)?;
    for some in unfiled.chunks(FILING_BATCH) {
        let (ids, created_ats): (Vec<_>, Vec<_>) = some.iter().cloned().unzip();
        let file = sqlx::query("SELECT file_identifiers($1, $2)").bind(ids).bind(created_ats);
        file.execute(&mut *conn).await.map_err(translate)?;
    }
    sqlx::query("UPDATE hashing SET empty_identifiers_filed = true").execute(conn).await.map_err(translate)?;
    Ok(())
}

/// The hashes of a migrated database, on a primary or a standby.
///
/// # Errors
/// [`StoreError::TooNew`] where a newer version of this program has migrated the schema.
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
