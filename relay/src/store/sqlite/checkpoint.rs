//! The checkpointer: a task that copies the write-ahead log into the database file, on a connection of its own, so that
//! no commit waits for it.

use super::error::translate;
use super::open::{Owner, connect_options, wal_path};
use super::options::Options;
use crate::store::StoreError;
use crate::telemetry::Task;
use futures_util::FutureExt;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection, Row};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;

/// After this long without a write the log is copied and truncated.
const IDLE: Duration = Duration::from_secs(10);

/// The task.
pub(super) struct Checkpointer {
    written: Arc<Notify>,
    stop: watch::Sender<bool>,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
    /// Open as long as the store: closing any descriptor of a file drops all POSIX locks that the process has on it,
    /// and with them SQLite's.
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
        let task = options.tasks.spawn(Task::Checkpoint, async move {
            run(connection, &synced, &wal, bytes, &writer, &nudged, stopped).await;
        });
        Ok(Self { written, stop, task: parking_lot::Mutex::new(Some(task)), _database: database })
    }

    /// Tells the task that something was written.
    pub(super) fn nudge(&self) {
        self.written.notify_one();
    }

    /// Lets the checkpoint under way finish, and ends the task.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().take();
        if let Some(task) = task {
            // The task ends by itself. If it has panicked, the panic was reported, and the writer's last checkpoint
            // does its work.
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
            // Writes wait for this checkpoint: after a truncation the log has to be complete in the file.
            let _nobody_writes = writer.lock().await;
            checkpoint(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await.map(drop)
        } else if length > bytes {
            let done = catch_up(&mut connection, database, writer).await;
            // The next commit truncates the log and begins at its start. Until then its length says nothing, so
            // earlier notifications are discarded.
            let _ = written.notified().now_or_never();
            done
        } else {
            Ok(())
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a checkpoint of the write-ahead log failed; it will be tried again");
        }
    }
    // The writer's connection closes later, and makes the last checkpoint.
    let _ = connection.close().await;
}

/// A pass that copies at most this many frames, some 10 ms of work, is the last one beside the writer.
const LAST_PASS_FRAMES: i64 = 2_000;

/// Copies and syncs the bulk of the log beside the writer, then what came in meanwhile, and so on; at last, while no
/// write runs, the rest. The next write begins at the start of the log only where the log was copied completely.
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
        // SQLite syncs only after it has copied the whole log. Without a sync here, the writer would wait for all of it
        // at the end.
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        synced.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))?;
        let now = copied - done;
        if now <= LAST_PASS_FRAMES || now > last / 2 {
            break;
        }
        (done, last) = (copied, now);
    }

    let _nobody_writes = writer.lock().await;
    checkpoint(connection, PASSIVE).await.map(drop)
}

/// Copies the log; returns how many of its frames are in the file by now.
async fn checkpoint(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query(sql).fetch_one(connection).await?.try_get(2)
}
