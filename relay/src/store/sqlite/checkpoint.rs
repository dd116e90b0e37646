//! Keeps the write-ahead log short without making a commit wait: a task copies it into the database file on a
//! connection of its own.

use super::error::translate;
use super::open::{Owner, connect_options, wal_path};
use super::options::Options;
use crate::store::StoreError;
use futures_util::FutureExt;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection, Row};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;

/// A log that has seen no write for so long is copied and cut to nothing.
const IDLE: Duration = Duration::from_secs(10);

/// The task.
pub(super) struct Checkpointer {
    written: Arc<Notify>,
    stop: watch::Sender<bool>,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
    /// Open as long as the store: closing any descriptor of a file drops all POSIX locks that the process has on it,
    /// those of SQLite too.
    _database: Arc<File>,
}

impl Checkpointer {
    pub(super) async fn start(options: &Options, writer: Arc<Mutex<Option<Owner>>>) -> Result<Self, StoreError> {
        let connection = connect_options(options).pragma("wal_autocheckpoint", "0").connect().await;
        let connection = connection.map_err(translate)?;
        let written = Arc::new(Notify::new());
        let (stop, stopped) = watch::channel(false);
        let (wal, bytes) = (wal_path(&options.path), options.checkpoint_bytes);
        let nudged = written.clone();
        let database = Arc::new(File::open(&options.path).map_err(|error| translate(error.into()))?);
        let synced = database.clone();
        let task = tokio::spawn(async move { run(connection, &synced, &wal, bytes, &writer, &nudged, stopped).await });
        Ok(Self { written, stop, task: parking_lot::Mutex::new(Some(task)), _database: database })
    }

    /// Tells the task that something was written.
    pub(super) fn nudge(&self) {
        self.written.notify_one();
    }

    /// Lets the checkpoint that is under way finish and ends the task.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It ends by itself; a panic in it has been reported and matters no more.
            let _ = task.await;
        }
    }
}

async fn run(
    mut connection: SqliteConnection,
    database: &Arc<File>,
    wal: &Path,
    bytes: u64,
    writer: &Mutex<Option<Owner>>,
    written: &Notify,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let idle = tokio::select! {
            () = written.notified() => false,
            () = tokio::time::sleep(IDLE) => true,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let length = std::fs::metadata(wal).map_or(0, |file| file.len());
        let done = if idle && length > 0 {
            // Whoever comes to write now waits for this one.
            let _nobody_writes = writer.lock().await;
            checkpoint(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await.map(drop)
        } else if length > bytes {
            let done = catch_up(&mut connection, database, writer).await;
            // The log is cut by the next commit. What was told before says nothing of its length any more.
            let _ = written.notified().now_or_never();
            done
        } else {
            Ok(())
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a checkpoint of the write-ahead log failed; it will be tried again");
        }
    }
    // The writer's connection outlives this one and makes the last checkpoint when it closes.
    let _ = connection.close().await;
}

/// A pass that copied no more than this, some 10 ms of work, is the last beside the writer.
const FEW_FRAMES: i64 = 2_000;

/// The bulk is copied and synced beside the writer, then what came in meanwhile, and so on; then, while nobody writes,
/// the little that is left: only a log that was copied completely is begun anew by the next write.
async fn catch_up(
    connection: &mut SqliteConnection,
    database: &Arc<File>,
    writer: &Mutex<Option<Owner>>,
) -> Result<(), sqlx::Error> {
    const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
    let (mut done, mut last) = (0, i64::MAX);
    loop {
        let copied = checkpoint(connection, PASSIVE).await?;
        let file = database.clone();
        // SQLite syncs only where it has come to the log's end: without this the writer would wait for all of it.
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        synced.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))?;
        let now = copied - done;
        if now <= FEW_FRAMES || now > last / 2 {
            break;
        }
        (done, last) = (copied, now);
    }
    let _nobody_writes = writer.lock().await;
    checkpoint(connection, PASSIVE).await.map(drop)
}

/// Copies what is in the log; returns how many of its frames are copied by now.
async fn checkpoint(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query(sql).fetch_one(connection).await?.try_get(2)
}
