//! A shared log in memory, in place of the primary database.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use relay::store::rules::Vanish;
use relay::store::{Appended, Counted, LogSlice, MemoryStore, Page, Read, SharedHead, SharedLog, Store, StoreError};
use relay::types::{Access, Change, EventId, Filter, Head, Insertion, LogEntry, Position, Row, Timestamp, Verified};

#[derive(Default)]
pub(crate) struct SharedMemory {
    store: MemoryStore,
    log: Mutex<Vec<LogEntry>>,
    /// True where the shared log answers no call: for the controls.
    pub(crate) mute: bool,
}

impl SharedMemory {
    pub(crate) fn new(mute: bool) -> Self {
        Self { mute, ..Self::default() }
    }

    pub(crate) fn log(&self) -> Vec<LogEntry> {
        self.log.lock().clone()
    }

    /// One call that changes the store and the log together.
    fn write<'a>(
        &'a self,
        call: BoxFuture<'a, Result<Appended, StoreError>>,
    ) -> BoxFuture<'a, Result<Appended, StoreError>> {
        async move {
            let mut log = self.log.lock();
            let appended = call.now_or_never().unwrap()?;
            if !appended.changes.is_empty() {
                log.push(LogEntry::new(appended.head.position, appended.changes.clone()));
            }
            Ok(appended)
        }
        .boxed()
    }
}

/// Each instance has its own marks of dead events.
fn fresh(entry: &LogEntry) -> LogEntry {
    let changes = entry.changes.iter().map(|change| match change {
        Change::Inserted(insertion) => Change::Inserted(Insertion::new(insertion.event.clone())),
        removed => removed.clone(),
    });
    LogEntry { changes: changes.collect(), ..entry.clone() }
}

impl SharedLog for SharedMemory {
    fn shared_head(&self) -> BoxFuture<'_, Result<SharedHead, StoreError>> {
        async move {
            let head = self.store.head().await?;
            let position = if self.mute { Position(0) } else { Position(self.log.lock().len() as u64) };
            Ok(SharedHead { head: Head { position, ..head }, ..SharedHead::default() })
        }
        .boxed()
    }

    fn entries(&self, after: Position, _: usize) -> BoxFuture<'_, Result<LogSlice, StoreError>> {
        async move {
            let head = self.shared_head().await?;
            let log = self.log.lock();
            let entries =
                log.iter().filter(|entry| entry.position > after && !self.mute).take(500).map(fresh).collect();
            Ok(LogSlice { head, entries })
        }
        .boxed()
    }
}

impl Store for SharedMemory {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.store.head()
    }
    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        self.store.known(ids, at_least)
    }
    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.write(self.store.append(batch, now))
    }
    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.store.read(read)
    }
    fn fetch<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.store.fetch(ids)
    }
    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>> {
        self.store.count(filters, access, at_least, now)
    }
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        self.store.now()
    }
    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.write(self.store.sweep_expired(now, max))
    }
    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.write(self.store.remove(filter, max))
    }

    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.write(self.store.vanish(vanish, max))
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}
