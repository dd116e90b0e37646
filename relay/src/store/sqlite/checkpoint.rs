//! Keeps the write-ahead log short without making a commit wait: a task copies it into the database file on a
//! connection of its own.

use super::Owner;
use super::open::{connect_options, wal_path};
use super::options::Options;
use crate::store::StoreError;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};
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
}

impl Checkpointer {
    pub(super) async fn start(options: &Options, writer: Arc<Mutex<Option<Owner>>>) -> Result<Self, StoreError> {
        let connection = connect_options(options).pragma("wal_autocheckpoint", "0").connect().await;
        let connection = connection.map_err(super::translate)?;
        let written = Arc::new(Notify::new());
        let (stop, stopped) = watch::channel(false);
        let (wal, bytes) = (wal_path(&options.path), options.checkpoint_bytes);
        let nudged = written.clone();
        let task = tokio::spawn(async move { run(connection, &wal, bytes, &writer, &nudged, stopped).await });
        Ok(Self { written, stop, task: parking_lot::Mutex::new(Some(task)) })
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
            checkpoint(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await
        } else if length > bytes {
            catch_up(&mut connection, writer).await
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

/// The bulk is copied beside the writer; then, while nobody writes, the little that came in meanwhile: only a log that
/// was copied completely is begun anew by the next write.
async fn catch_up(connection: &mut SqliteConnection, writer: &Mutex<Option<Owner>>) -> Result<(), sqlx::Error> {
    checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)").await?;
    let _nobody_writes = writer.lock().await;
    checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)").await
}

async fn checkpoint(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).fetch_all(connection).await.map(drop)
}
