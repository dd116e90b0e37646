//! Backup, export and figures of a database file, while a relay may be running on it. Never writes to it.

use super::error::translate;
use super::open::{check_version, connect_options, wal_path};
use super::options::Options;
use crate::store::StoreError;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Row};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A read-only view of a database file.
pub struct Archive {
    connection: SqliteConnection,
    path: PathBuf,
}

/// One batch of an export.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    /// Canonical event texts.
    pub texts: Vec<Arc<str>>,
    /// Where the next batch begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// The progress of an export. Rows are numbered away from 0: those of special events downwards, all others upwards. So
/// an event that is stored meanwhile is ahead of one of the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    greatest: i64,
    least: i64,
}

/// Figures about a database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// How many events were ever stored, those removed since included: an upper bound for the number of events.
    pub events_at_most: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the write-ahead log.
    pub wal_bytes: u64,
}

impl Archive {
    /// Opens the file at `options.path`, which must exist.
    pub async fn open(options: &Options) -> Result<Self, StoreError> {
        let mut connection = connect_options(options).read_only(true).connect().await.map_err(translate)?;
        check_version(&mut connection).await?;
        Ok(Self { connection, path: options.path.clone() })
    }

    /// The next `max` events after `after`, which is the `next` of the batch before; special events come last. The last
    /// batch is a snapshot that leaves nothing out, so every event of that moment is in one of the batches.
    pub async fn export(&mut self, after: Option<Cursor>, max: usize) -> Result<Exported, StoreError> {
        // One statement: between two, a version could be replaced by one in a part that this export has passed.
        let sql = "SELECT * FROM (SELECT row, text FROM event WHERE row > ?1 ORDER BY row LIMIT ?3) UNION ALL \
             SELECT * FROM (SELECT row, text FROM event WHERE row < ?2 ORDER BY row DESC LIMIT ?3) LIMIT ?3";
        let mut cursor = after.unwrap_or_default();
        let query = sqlx::query(sql).bind(cursor.greatest).bind(cursor.least);
        let query = query.bind(i64::try_from(max).unwrap_or(i64::MAX));
        let rows = query.fetch_all(&mut self.connection).await.map_err(translate)?;
        let mut exported = Exported::default();
        for row in &rows {
            let number: i64 = row.try_get(0).map_err(translate)?;
            cursor = Cursor { greatest: cursor.greatest.max(number), least: cursor.least.min(number) };
            exported.texts.push(row.try_get::<&str, _>(1).map_err(translate)?.into());
        }
        exported.next = (rows.len() == max).then_some(cursor);
        Ok(exported)
    }

    /// Writes a compact copy to `to`, which must not exist: one snapshot, while the relay goes on. Calls `progress`
    /// four times a second with the bytes written and the expected total. When this fails or is dropped, files may
    /// remain at `to` and at `to` with `-journal` appended. Meanwhile the write-ahead log grows by what the relay
    /// writes.
    pub async fn backup(&mut self, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        let refuse = |kind, why: String| StoreError::Database(sqlx::Error::Io(std::io::Error::new(kind, why)));
        if to.exists() {
            return Err(refuse(ErrorKind::AlreadyExists, to.display().to_string()));
        }

        let total = self.stats().await?.file_bytes;
        let name =
            to.to_str().ok_or_else(|| refuse(ErrorKind::InvalidInput, "the file name is not UTF-8".to_owned()))?;

        let copy = sqlx::query("VACUUM INTO ?1").bind(name).execute(&mut self.connection);
        let mut copy = std::pin::pin!(copy);
        let mut tick = tokio::time::interval(Duration::from_millis(250));

        loop {
            tokio::select! {
                done = &mut copy => return done.map(drop).map_err(translate),
                _ = tick.tick() => progress(std::fs::metadata(to).map_or(0, |file| file.len()), total),
            }
        }
    }

    /// Figures that cost almost nothing.
    pub async fn stats(&mut self) -> Result<Stats, StoreError> {
        let sql = "SELECT coalesce((SELECT max(row) FROM event), 0), coalesce((SELECT min(row) FROM event), 0)";
        let row = sqlx::query(sql).fetch_one(&mut self.connection).await.map_err(translate)?;
        let bound = |at: usize| row.try_get::<i64, _>(at).map_err(translate);
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        Ok(Stats {
            events_at_most: bound(0)?.max(0).unsigned_abs() + bound(1)?.min(0).unsigned_abs(),
            file_bytes: bytes(&self.path),
            wal_bytes: bytes(&wal_path(&self.path)),
        })
    }
}
