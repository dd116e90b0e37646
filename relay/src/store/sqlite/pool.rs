//! The connections for reading: lent one at a time, with a deadline that stops the running statement.
//!
//! Dropping a future does not stop the statement that its connection's thread is executing. So each connection has a
//! progress handler that checks a deadline, and a dropped read sets that deadline to "now".

use super::error::translate;
use crate::store::StoreError;
use parking_lot::Mutex;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Virtual machine instructions between two checks of the deadline: about 50 µs.
const OPS_BETWEEN_LOOKS: i32 = 2_000;
const NEVER: u64 = u64::MAX;

/// The deadline of the statements of one connection.
#[derive(Debug)]
struct Deadline {
    base: Instant,
    nanos: AtomicU64,
}

impl Deadline {
    fn set(&self, timeout: Duration) {
        let nanos = self.base.elapsed().saturating_add(timeout).as_nanos();
        self.nanos.store(u64::try_from(nanos).unwrap_or(NEVER), Ordering::Relaxed);
    }

    fn stop_now(&self) {
        self.nanos.store(0, Ordering::Relaxed);
    }

    fn has_passed(&self) -> bool {
        let nanos = self.nanos.load(Ordering::Relaxed);
        nanos != NEVER && self.base.elapsed().as_nanos() > u128::from(nanos)
    }
}

struct ReaderConnection {
    connection: SqliteConnection,
    deadline: Arc<Deadline>,
    /// A statement was begun, and its end has not been seen.
    busy: bool,
}

/// The state of the connections for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// Connections.
    pub connections: u32,
    /// Connections without work.
    pub idle: u32,
    /// Reads that wait for a connection.
    pub waiting: u32,
    /// Reads that have timed out waiting since the start.
    pub timeouts: u64,
}

/// Counts a waiting read for as long as it exists: a dropped future waits no longer.
struct WaitingRead<'a>(&'a AtomicU32);

impl<'a> WaitingRead<'a> {
    fn begin(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for WaitingRead<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A bounded set of connections.
pub(super) struct ReaderPool {
    idle: Mutex<Vec<ReaderConnection>>,
    permits: Arc<Semaphore>,
    size: u32,
    waiting: AtomicU32,
    timeouts: AtomicU64,
    acquire_timeout: Duration,
    read_timeout: Duration,
}

impl ReaderPool {
    /// Opens `size` connections, at least one.
    pub(super) async fn open(
        options: &SqliteConnectOptions,
        size: usize,
        acquire_timeout: Duration,
        read_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let size = u32::try_from(size.clamp(1, 1024)).unwrap_or(1);
        let mut idle = Vec::new();
        for _ in 0..size {
            let mut connection = options.connect().await.map_err(translate)?;
            let deadline = Arc::new(Deadline { base: Instant::now(), nanos: AtomicU64::new(NEVER) });
            let seen = deadline.clone();
            let mut handle = connection.lock_handle().await.map_err(translate)?;
            handle.set_progress_handler(OPS_BETWEEN_LOOKS, move || !seen.has_passed());
            drop(handle);
            idle.push(ReaderConnection { connection, deadline, busy: false });
        }
        let permits = Arc::new(Semaphore::new(size as usize));
        let (waiting, timeouts) = (AtomicU32::new(0), AtomicU64::new(0));
        Ok(Self { idle: Mutex::new(idle), permits, size, waiting, timeouts, acquire_timeout, read_timeout })
    }

    /// The state of the pool.
    pub(super) fn status(&self) -> PoolStatus {
        let idle = u32::try_from(self.idle.lock().len()).unwrap_or(u32::MAX);
        let (waiting, timeouts) = (self.waiting.load(Ordering::Relaxed), self.timeouts.load(Ordering::Relaxed));
        PoolStatus { connections: self.size, idle, waiting, timeouts }
    }

    /// Lends a connection, whose statements together may take the read timeout. The connection returned last goes
    /// first, since its caches are warm.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] where none became free in time.
    pub(super) async fn lend(self: &Arc<Self>) -> Result<ReaderLease, StoreError> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = WaitingRead::begin(&self.waiting);
                let permit = tokio::time::timeout(self.acquire_timeout, self.permits.clone().acquire_owned()).await;
                drop(waiting);
                match permit {
                    Ok(permit) => permit.map_err(|_| StoreError::Closed)?,
                    Err(_) => {
                        self.timeouts.fetch_add(1, Ordering::Relaxed);
                        return Err(StoreError::Overloaded);
                    }
                }
            }
        };

        let reader = self.idle.lock().pop().ok_or(StoreError::Closed)?;
        let mut lease = ReaderLease { reader: Some(reader), pool: self.clone(), _permit: permit };
        let reader = lease.reader()?;

        if reader.busy {
            // The connection's thread takes commands in turn: once it answers, the dropped statement has ended.
            reader.connection.ping().await.map_err(translate)?;
            reader.busy = false;
        }

        reader.deadline.set(self.read_timeout);
        Ok(lease)
    }

    /// Refuses new loans, waits for the loans that are out, and closes the connections.
    pub(super) async fn close(&self) {
        if self.permits.is_closed() {
            return;
        }
        let all = self.permits.acquire_many(self.size).await;
        self.permits.close();
        drop(all);
        let readers = std::mem::take(&mut *self.idle.lock());
        for reader in readers {
            // These connections only read, so a failure to close loses nothing.
            let _ = reader.connection.close().await;
        }
    }
}

/// A lent connection.
pub(super) struct ReaderLease {
    reader: Option<ReaderConnection>,
    pool: Arc<ReaderPool>,
    _permit: OwnedSemaphorePermit,
}

impl ReaderLease {
    fn reader(&mut self) -> Result<&mut ReaderConnection, StoreError> {
        self.reader.as_mut().ok_or(StoreError::Closed)
    }

    /// Runs a statement of one row. Cancel safe: dropping the call stops the statement.
    pub(super) async fn one(&mut self, sql: Arc<str>, arguments: SqliteArguments) -> Result<SqliteRow, StoreError> {
        let reader = self.reader()?;
        reader.busy = true;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
        let row = query.fetch_one(&mut reader.connection).await;
        reader.busy = false;
        row.map_err(translate)
    }

    /// Runs a statement and returns its rows. Cancel safe: dropping the call stops the statement.
    pub(super) async fn all(
        &mut self,
        sql: Arc<str>,
        arguments: SqliteArguments,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let reader = self.reader()?;
        reader.busy = true;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
        let rows = query.fetch_all(&mut reader.connection).await;
        reader.busy = false;
        rows.map_err(translate)
    }
}

impl Drop for ReaderLease {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            if reader.busy {
                reader.deadline.stop_now();
            }
            self.pool.idle.lock().push(reader);
        }
    }
}
