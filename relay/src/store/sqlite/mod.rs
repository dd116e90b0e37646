//! The embedded store: one SQLite file, written by one process, through sqlx.
//!
//! - `open`: ownership of the file, schema, connections; `options`; `error`: SQLite's codes translated.
//! - `lookup`, `write`, `statements`: looking a batch up, and writing what was decided, with a few statements each
//!   whatever its size.
//! - `sql`, `bind`, `read`, `count`: the statement and the parameters of each form.
//! - `ord`: the numbers under which events are indexed.
//! - `pool`: connections for reading, with deadlines that stop a running statement.
//! - `checkpoint`, `archive`: checkpoints of the write-ahead log; backup, export, figures.

mod archive;
mod bind;
mod checkpoint;
mod count;
mod error;
mod lookup;
mod open;
mod options;
mod ord;
#[cfg(test)]
mod plan_tests;
mod pool;
mod read;
mod sql;
mod statements;
mod write;

pub use crate::config::Durability;
pub use archive::{Archive, Cursor, Exported, Stats};
pub use options::Options;
pub use pool::PoolStatus;

use super::hash::Hasher;
use super::rules::{SelectIds, Vanish};
use super::{Appended, Counted, Page, Read, Store, StoreError};
use crate::telemetry::Task;
use crate::types::{Access, EventId, Filter, Head, Position, RemovalCause, Row, Timestamp, Verified, now};
use bind::{HEAD, head_from};
use checkpoint::Checkpointer;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use open::{Owner, Ownership};
use pool::ReaderPool;
use sqlx::Connection;
use std::sync::Arc;
use tokio::sync::Mutex;
use write::Writer;

/// The embedded store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<SqliteState>,
}

struct SqliteState {
    hasher: Hasher,
    readers: Arc<ReaderPool>,
    /// `None` once closed.
    writer: Arc<Mutex<Option<Owner>>>,
    options: Options,
    checkpointer: Checkpointer,
}

impl SqliteStore {
    /// Opens the database, creates it where it is missing, and migrates its schema.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process writes to the file, [`StoreError::TooNew`] where a newer version of
    /// this program has migrated it, [`StoreError::Damaged`] where the file belongs to another program.
    pub async fn open(options: Options) -> Result<Self, StoreError> {
        let ownership = Ownership::take(&options.path)?;
        let writer = open::writer(&options).await?;
        let readers = ReaderPool::open(
            &open::reader_options(&options),
            options.readers,
            options.acquire_timeout,
            options.read_timeout,
        )
        .await?;
        let hasher = writer.hasher;
        let writer = Arc::new(Mutex::new(Some(Owner { writer, _ownership: ownership })));
        let checkpointer = Checkpointer::start(&options, writer.clone()).await?;
        let shared = SqliteState { hasher, readers: Arc::new(readers), writer, options, checkpointer };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Opens a view of this store's file for backup, export and figures, on a connection of its own.
    pub async fn archive(&self) -> Result<Archive, StoreError> {
        Archive::open(&self.shared.options).await
    }

    /// The state of the connections for reading.
    pub fn pool_status(&self) -> PoolStatus {
        self.shared.readers.status()
    }

    /// Runs the writes in the order of the calls. A write that has begun runs to its end even where the caller is
    /// dropped: an unknown outcome is worse than a late one.
    async fn write(&self, order: SqliteWrite) -> Result<Appended, StoreError> {
        let shared = self.shared.clone();
        // The lock is taken before the task, since tasks start in any order: a later call finds this write done.
        let mut owner = shared.writer.clone().lock_owned().await;
        let task = self.shared.options.tasks.spawn(Task::StoreWrite, async move {
            let writer = &mut owner.as_mut().ok_or(StoreError::Closed)?.writer;
            let done = order.run_on(&shared, writer).await;
            shared.checkpointer.nudge();
            done
        });
        task.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// A write.
enum SqliteWrite {
    Append(Vec<Verified>, Timestamp),
    Sweep(Timestamp, usize),
    Remove(Filter, usize),
    Vanish(Vanish, usize),
}

impl SqliteWrite {
    async fn run_on(self, shared: &SqliteState, writer: &mut Writer) -> Result<Appended, StoreError> {
        match self {
            Self::Append(batch, now) => writer.append(&batch, now).await,
            Self::Sweep(now, max) => writer.sweep_expired(now, max).await,
            Self::Remove(filter, max) => {
                let ids = SqliteSelection(shared).select_ids(&filter, max).await?;
                writer.remove(ids, &filter, RemovalCause::Administered).await
            }
            Self::Vanish(vanish, max) => {
                let (ids, filter) = vanish.next_batch(&mut SqliteSelection(shared), max).await?;
                writer.vanish(ids, &filter, &vanish).await
            }
        }
    }
}

/// Reads for a write: nothing can change between the two, since all writers wait for this one.
struct SqliteSelection<'a>(&'a SqliteState);

impl SelectIds for SqliteSelection<'_> {
    async fn page(&mut self, read: &Read<'_>) -> Result<Page, StoreError> {
        read_page(self.0, read).await
    }
}

async fn read_page(shared: &SqliteState, read: &Read<'_>) -> Result<Page, StoreError> {
    let mut lease = shared.readers.lend().await?;
    if read.filter.is_impossible() {
        let head = head_from(&lease.one(HEAD.into(), Default::default()).await?)?;
        return Ok(Page { rows: Vec::new(), rest: Vec::new(), head, complete: true });
    }
    read::page(&mut lease, &shared.hasher, read).await
}

impl Store for SqliteStore {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        async {
            let mut lease = self.shared.readers.lend().await?;
            head_from(&lease.one(HEAD.into(), Default::default()).await?)
        }
        .boxed()
    }

    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        _at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        async move {
            let mut lease = self.shared.readers.lend().await?;
            let (stored, head) = lookup::known_ids(&mut lease, ids).await?;
            Ok((ids.iter().map(|id| stored.contains(id)).collect(), head))
        }
        .boxed()
    }

    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.write(SqliteWrite::Append(batch, now)).boxed()
    }

    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        read_page(&self.shared, read).boxed()
    }

    fn fetch<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        async move {
            let mut lease = self.shared.readers.lend().await?;
            lookup::rows(&mut lease, ids).await
        }
        .boxed()
    }

    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        _at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>> {
        async move {
            let mut lease = self.shared.readers.lend().await?;
            count::count(&mut lease, &self.shared.hasher, filters, access, now).await
        }
        .boxed()
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        async { Ok(now()) }.boxed()
    }

    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.write(SqliteWrite::Sweep(now, max)).boxed()
    }

    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.write(SqliteWrite::Remove(filter.clone(), max)).boxed()
    }

    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.write(SqliteWrite::Vanish(vanish.clone(), max)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            // The writer first: this waits for the write under way, and no new one begins.
            let owner = self.shared.writer.lock().await.take();
            self.shared.checkpointer.stop().await;
            self.shared.readers.close().await;
            if let Some(Owner { writer, _ownership }) = owner {
                // Every commit is on disk: a failure to close loses nothing.
                let _ = writer.connection.close().await;
            }
        }
        .boxed()
    }
}
