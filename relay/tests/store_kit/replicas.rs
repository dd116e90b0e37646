//! A store on a primary with two streaming replicas, which answer its reads.

use super::{REPLICATED, Server};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use relay::store::postgres::{Condition, PostgresStore, Role, Thresholds};
use relay::store::rules::Vanish;
use relay::store::{Appended, Counted, Page, Read, Store, StoreError};
use relay::types::{Access, EventId, Filter, Head, Position, Row, Timestamp, Verified};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Handle;

/// Reads its own writes, as an instance does: reads are of the last write's position, or later. These tests do not
/// measure how soon replicas follow, so a write waits for them.
///
/// Dropping it fails the test unless the replicas have answered nearly all of its reads.
pub struct ThroughReplicas {
    store: PostgresStore,
    server: &'static Server,
    written: AtomicU64,
}

/// A new one, its hashes cut to `hash_bits`.
pub async fn through_replicas(hash_bits: u32) -> ThroughReplicas {
    let server = REPLICATED.get_or_init(|| Server::start(2)).await;
    let store = server.store(hash_bits, Thresholds::default()).await;
    deploy::until("both replicas to serve", deploy::STEP_TIMEOUT, async || {
        let nodes = store.status();
        let serve = nodes.iter().filter(|node| node.role == Role::Replica && node.condition == Condition::Healthy);
        if serve.count() == 2 { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await
    .unwrap();
    ThroughReplicas { store, server, written: AtomicU64::new(0) }
}

impl ThroughReplicas {
    fn at_least(&self, asked: Position) -> Position {
        asked.max(Position(self.written.load(Ordering::Acquire)))
    }

    async fn written(&self, write: BoxFuture<'_, Result<Appended, StoreError>>) -> Result<Appended, StoreError> {
        let appended = write.await?;
        self.written.fetch_max(appended.head.position.0, Ordering::AcqRel);
        // In place: the kit's futures stay on their thread.
        let applied = || Handle::current().block_on(self.server.cluster.wait_applied());
        tokio::task::block_in_place(applied).unwrap();
        Ok(appended)
    }

    /// Reads that the primary and the replicas have answered.
    pub fn reads(&self) -> (u64, u64) {
        let of = |role| self.store.status().iter().filter(|node| node.role == role).map(|node| node.reads).sum();
        (of(Role::Primary), of(Role::Replica))
    }
}

impl Drop for ThroughReplicas {
    fn drop(&mut self) {
        let (primary, replicas) = self.reads();
        // Nearly all: where the machine pauses for a moment, a read rightly goes to the primary.
        if !std::thread::panicking() {
            assert!(primary <= 1 + replicas / 10, "the primary answered {primary} reads, the replicas {replicas}");
        }
    }
}

impl Store for ThroughReplicas {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.store.head()
    }

    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        self.store.known(ids, self.at_least(at_least))
    }

    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.written(self.store.append(batch, now)).boxed()
    }

    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        let read = Read { at_least: self.at_least(read.at_least), ..read.clone() };
        async move { self.store.read(&read).await }.boxed()
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
        self.store.count(filters, access, self.at_least(at_least), now)
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        self.store.now()
    }

    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.written(self.store.sweep_expired(now, max)).boxed()
    }

    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.written(self.store.remove(filter, max)).boxed()
    }

    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.written(self.store.vanish(vanish, max)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}
