//! Opening a database: takes ownership of the file, migrates the schema, refuses a file of a newer version or of
//! another program.

use super::error::translate;
use super::options::Options;
use super::statements::Statements;
use super::write::Writer;
use crate::config::Durability;
use crate::store::StoreError;
use crate::store::hash::Hasher;
use crate::types::{Epoch, Head, Position};
use rustix::fs::{FlockOperation, flock};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// `PRAGMA application_id` of a Skein database: "skei".
const APPLICATION_ID: i64 = 0x736b_6569;
/// The page size of a new file, half of SQLite's default. An event changes five pages, so a write takes half the bytes;
/// reading costs the same (docs/decisions).
const PAGE_BYTES: u32 = 2048;

/// The ownership of a database file: a lock on a file beside it. The operating system releases it when the process
/// ends, however it ends.
#[derive(Debug)]
pub(super) struct Ownership(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Ownership {
    /// Takes the file at `path` for this process.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let mut lock = path.as_os_str().to_owned();
        lock.push("-lock");
        let io = |error: std::io::Error| StoreError::Database(sqlx::Error::Io(error));
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&lock).map_err(io)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(StoreError::InUse { path: path.to_owned(), pid: pid.trim().parse().ok() });
        }
        // The process id is for people; the lock is what counts.
        let noted =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(io)?;
        Ok(Self(file))
    }
}

/// The writer, and the ownership that it depends on.
pub(super) struct Owner {
    pub(super) writer: Writer,
    pub(super) _ownership: Ownership,
}

/// The options of every connection.
pub(super) fn connect_options(options: &Options) -> SqliteConnectOptions {
    let cache_kib = i64::try_from(options.cache_bytes / 1024).unwrap_or(i64::MAX);
    SqliteConnectOptions::new()
        .filename(&options.path)
        .busy_timeout(options.busy_timeout)
        .statement_cache_capacity(256)
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("mmap_size", options.mmap_bytes.to_string())
        .pragma("temp_store", "MEMORY")
        // SQLite would build an index of a whole table for a single statement where it expects that to be faster.
        .pragma("automatic_index", "OFF")
        .foreign_keys(false)
        .thread_name(|number| format!("sqlite-{number}"))
        .disable_statement_logging()
}

/// The options of a connection for reading.
pub(super) fn reader_options(options: &Options) -> SqliteConnectOptions {
    connect_options(options).read_only(true).pragma("query_only", "ON")
}

/// Opens the writer's connection and migrates the schema.
pub(super) async fn writer(options: &Options) -> Result<Writer, StoreError> {
    let synchronous = match options.durability {
        Durability::Full => SqliteSynchronous::Full,
        Durability::Relaxed => SqliteSynchronous::Normal,
    };
    // A failsafe: if the checkpointer ever fails, the writer makes a checkpoint itself once the log has eight times its
    // size.
    let failsafe_pages = (options.checkpoint_bytes / u64::from(PAGE_BYTES)).saturating_mul(8).clamp(20_000, 1 << 24);
    let connect = connect_options(options)
        .create_if_missing(true)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .pragma("wal_autocheckpoint", failsafe_pages.to_string())
        // Truncates a log that begins anew to this size, so that its length says how much of it is in use.
        .pragma("journal_size_limit", options.checkpoint_bytes.to_string());
    let mut connection = connect.connect().await.map_err(translate)?;

    if let Some(bytes) = options.max_file_bytes {
        // An older file keeps its page size.
        let page = number(&mut connection, "PRAGMA page_size").await?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        let sql = AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages.max(1)));
        sqlx::query(sql).fetch_all(&mut connection).await.map_err(translate)?;
    }

    migrate(&mut connection, &options.path).await?;
    let (head, hasher) = identity(&mut connection, options.hash_bits).await?;
    file_empty_identifiers(&mut connection, &hasher).await?;
    let row = sqlx::query("SELECT coalesce(max(row), 0), coalesce(min(row), 0) FROM event");
    let row = row.fetch_one(&mut connection).await.map_err(translate)?;
    let (greatest, least): (i64, i64) =
        row.try_get(0).and_then(|greatest| Ok((greatest, row.try_get(1)?))).map_err(translate)?;

    Ok(Writer {
        connection,
        hasher,
        head,
        next_row: greatest.max(0) + 1,
        next_special_row: least.min(0) - 1,
        statements: Statements::new(),
    })
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, StoreError> {
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(translate)
}

/// Refuses a file of another program or of a newer version, and runs the missing migrations.
async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let application = number(connection, "SELECT application_id FROM pragma_application_id").await?;
    let tables = number(connection, "SELECT count(*) FROM sqlite_schema").await?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(StoreError::Damaged(format!("{} is not a database of this relay", path.display())));
    }
    check_version(connection).await?;
    // `run` would not do: its future is not known to be `Send`.
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| StoreError::Database(error.into()))
}

/// Refuses a schema of a newer version.
pub(super) async fn check_version(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let table = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
    if number(connection, table).await? == 0 {
        return Ok(());
    }
    let newest = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";
    let found = number(connection, newest).await?;
    if found > known { Err(StoreError::TooNew { found, known }) } else { Ok(()) }
}

/// The head and the hash secret, both created with the file.
async fn identity(connection: &mut SqliteConnection, bits: u32) -> Result<(Head, Hasher), StoreError> {
    for (sql, bytes) in [
        (
            "INSERT INTO hashing (secret, bits) SELECT randomblob(16), ?1 WHERE NOT EXISTS (SELECT 1 FROM hashing)",
            i64::from(bits),
        ),
        ("INSERT INTO head SELECT ?1, 0 WHERE NOT EXISTS (SELECT 1 FROM head)", i64::from(rand::random::<u32>())),
    ] {
        sqlx::query(sql).bind(bytes).execute(&mut *connection).await.map_err(translate)?;
    }

    let row = sqlx::query("SELECT epoch, position, secret, bits FROM head, hashing").fetch_one(connection).await;
    let row = row.map_err(translate)?;
    let read = || -> Result<_, sqlx::Error> {
        let secret: Vec<u8> = row.try_get(2)?;
        Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?, secret, row.try_get::<u32, _>(3)?))
    };
    let (epoch, position, secret, bits) = read().map_err(translate)?;
    let secret = secret.try_into().map_err(|_| StoreError::Damaged("the hashing secret is not 16 bytes".into()))?;
    let head = Head { epoch: Epoch(epoch.cast_unsigned()), position: Position(position.cast_unsigned()) };
    Ok((head, Hasher::new(secret, bits)))
}

/// Files the addressable events that an older program has stored without a `d` tag under the empty identifier, once. A
/// text holds `["d","` at a tag only (see `store::text`).
async fn file_empty_identifiers(connection: &mut SqliteConnection, hasher: &Hasher) -> Result<(), StoreError> {
    if number(connection, "SELECT count(empty_identifier) FROM hashing").await? > 0 {
        return Ok(());
    }
    let mut transaction = connection.begin().await.map_err(translate)?;
    for sql in [
        "INSERT OR IGNORE INTO tag (hash, ord, row, kind) SELECT ?1, ord, row, kind FROM event INDEXED BY event_kind \
         WHERE kind BETWEEN 30000 AND 39999 AND instr(text, '[\"d\",\"') = 0",
        "UPDATE hashing SET empty_identifier = ?1",
    ] {
        sqlx::query(sql).bind(hasher.tag(b'd', "")).execute(&mut *transaction).await.map_err(translate)?;
    }
    transaction.commit().await.map_err(translate)
}

/// The write-ahead log of the database at `path`.
pub(super) fn wal_path(path: &Path) -> PathBuf {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    wal.into()
}
