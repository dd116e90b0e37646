//! A store whose snapshots lag, and claim their own W or a wrong one.

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use relay::log::Log;
use relay::store::rules::Vanish;
use relay::store::{Appended, Counted, Page, Read, Store, StoreError};
use relay::types::{Access, EventId, Filter, Head, Position, Row, Timestamp, Verified};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How the store under test treats its snapshots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Snapshots {
    /// As they are.
    Honest,
    /// Each answer waits until the head has moved on: an older W, honestly named.
    Lagging,
    /// The same, but W is claimed to be the present head.
    Lying,
}

/// A store with the snapshots of a replica.
pub(crate) struct Replica {
    inner: Arc<dyn Store>,
    mode: Snapshots,
    log: Mutex<Option<Arc<Log>>>,
    reads: AtomicUsize,
}

impl Replica {
    pub(crate) fn new(inner: Arc<dyn Store>, mode: Snapshots) -> Self {
        Self { inner, mode, log: Mutex::new(None), reads: AtomicUsize::new(0) }
    }

    /// Sets the log whose head its snapshots lag behind.
    pub(crate) fn follow(&self, log: Arc<Log>) {
        *self.log.lock() = Some(log);
    }

    async fn lag(&self, page: Page) -> Page {
        let log = self.log.lock().clone();
        let Some(log) = log.filter(|_| self.mode != Snapshots::Honest) else { return page };
        let lag = self.reads.fetch_add(1, Ordering::Relaxed) as u64 % 7;
        // At the end of the run the head no longer moves: then the snapshot is not overtaken.
        let _ = tokio::time::timeout(
            Duration::from_millis(20),
            log.reach(Head { position: Position(page.head.position.0 + lag), ..page.head }),
        )
        .await;
        let position = if self.mode == Snapshots::Lying { log.head().position } else { page.head.position };
        Page { head: Head { position, ..page.head }, ..page }
    }
}

impl Store for Replica {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.inner.head()
    }
    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        self.inner.known(ids, at_least)
    }
    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.inner.append(batch, now)
    }
    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move { Ok(self.lag(self.inner.read(read).await?).await) })
    }
    fn fetch<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.inner.fetch(ids)
    }
    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>> {
        self.inner.count(filters, access, at_least, now)
    }
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        self.inner.now()
    }
    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.inner.sweep_expired(now, max)
    }
    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.inner.remove(filter, max)
    }

    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.inner.vanish(vanish, max)
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
