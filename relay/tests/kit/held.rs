//! A store whose reads wait until the test releases them, like an overloaded one.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use relay::store::memory::MemoryStore;
use relay::store::rules::Vanish;
use relay::store::{Appended, Counted, Page, Read, Store, StoreError};
use relay::types::{Access, EventId, Filter, Head, Position, Row, Timestamp, Verified};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Reads and lookups wait until [`release`](Self::release); writes do not.
pub struct Held {
    store: MemoryStore,
    reads: AtomicUsize,
    gate: Semaphore,
}

impl Held {
    pub fn new() -> Self {
        Self { store: MemoryStore::new(), reads: AtomicUsize::new(0), gate: Semaphore::new(0) }
    }

    /// How many reads of clients have begun.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    pub fn release(&self) {
        self.gate.close();
    }

    async fn wait(&self) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        // A closed semaphore lets everything through.
        let _ = self.gate.acquire().await;
    }
}

impl Store for Held {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.store.head()
    }

    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        async move {
            self.wait().await;
            self.store.known(ids, at_least).await
        }
        .boxed()
    }

    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.store.append(batch, now)
    }

    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        async move {
            if read.access.is_some() {
                self.wait().await;
            } else {
                // The relay's own reads wait too, but do not count.
                let _ = self.gate.acquire().await;
            }
            self.store.read(read).await
        }
        .boxed()
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
        async move {
            self.wait().await;
            self.store.count(filters, access, at_least, now).await
        }
        .boxed()
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        self.store.now()
    }

    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.store.sweep_expired(now, max)
    }

    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.store.remove(filter, max)
    }

    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.store.vanish(vanish, max)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}
