//! A database with a history, whose snapshots may be older than its last entry.

use crate::store::rules::Vanish;
use crate::store::{Appended, Counted, Page, Read, Store, StoreError};
use crate::types::{
    Access, Change, Epoch, Event, EventId, Filter, Head, LogEntry, Position, Row, Timestamp, Verified, now,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

/// The events that are stored at one position.
pub(super) type Alive = Arc<Vec<Arc<Event>>>;

pub(super) struct Database {
    pub(super) epoch: Epoch,
    /// The position of the first of `states`. Each entry is paired with the state after it.
    pub(super) first: u64,
    pub(super) states: VecDeque<(LogEntry, Alive)>,
    pub(super) reads: usize,
    pub(super) rng: StdRng,
}

impl Database {
    pub(super) fn last(&self) -> u64 {
        self.first + self.states.len() as u64 - 1
    }

    pub(super) fn at(&self, position: u64) -> Option<&(LogEntry, Alive)> {
        self.states.get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    pub(super) fn commit(&mut self, changes: Vec<Change>) {
        let mut alive = Vec::clone(&self.states.back().unwrap().1);
        for change in &changes {
            match change {
                Change::Inserted(insertion) => alive.push(insertion.event.clone()),
                Change::Removed(removal) => alive.retain(|event| event.id() != removal.id()),
            }
        }
        let position = Position(self.last() + 1);
        self.states.push_back((LogEntry::new(position, changes), Arc::new(alive)));
    }

    /// A snapshot that is not older than `at_least`, nor much older than the last entry.
    fn snapshot(&mut self, at_least: Position) -> (Head, Alive) {
        self.reads += 1;
        let least = self.last().saturating_sub(6).max(self.first).max(at_least.0).min(self.last());
        let position = self.rng.random_range(least..=self.last());
        (Head { epoch: self.epoch, position: Position(position) }, self.at(position).unwrap().1.clone())
    }

    fn page(&mut self, read: &Read<'_>) -> Page {
        let (head, alive) = self.snapshot(read.at_least);
        let mut rows = select(&alive, read.filter, read.access, read.now);
        let complete = rows.len() <= read.limit;
        rows.truncate(read.limit);
        Page { rows, rest: Vec::new(), head, complete }
    }

    fn count(&mut self, filters: &[Filter], access: &Access, at_least: Position, now: Timestamp) -> Counted {
        let (head, alive) = self.snapshot(at_least);
        let rows = distinct(&alive, filters, access, now);
        Counted { number: rows.len() as u64, head, expires_at: rows.iter().filter_map(|row| row.expires_at).min() }
    }
}

/// The rows that any of `filters` selects, each event once.
pub(super) fn distinct(alive: &[Arc<Event>], filters: &[Filter], access: &Access, now: Timestamp) -> Vec<Row> {
    let each = filters.iter().flat_map(|filter| select(alive, filter, Some(access), now));
    let mut rows: Vec<Row> = each.collect();
    rows.sort_by_key(|row| row.key.order());
    rows.dedup_by_key(|row| row.key.id);
    rows
}

/// The rows that a filter selects, newest first. The oracle: simple enough to be right at sight.
pub(super) fn select(alive: &[Arc<Event>], filter: &Filter, access: Option<&Access>, now: Timestamp) -> Vec<Row> {
    let mut rows: Vec<Row> = alive
        .iter()
        .filter(|event| filter.matches(event) && !event.is_expired(now))
        .filter(|event| access.is_none_or(|access| access.may_read(event)))
        .map(|event| Row::from(&**event))
        .collect();
    rows.sort_by_key(|row| row.key.order());
    rows
}

/// The database as a store: a read yields before and after it, so that other steps come between.
pub(super) struct Reached(pub(super) Arc<Mutex<Database>>);

async fn once() {
    let mut waited = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl Store for Reached {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn known<'a>(&'a self, _: &'a [EventId], _: Position) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn append(&self, _: Vec<Verified>, _: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        async move {
            once().await;
            let page = self.0.lock().page(read);
            once().await;
            Ok(page)
        }
        .boxed()
    }
    fn fetch<'a>(&'a self, _: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>> {
        async move {
            once().await;
            let counted = self.0.lock().count(filters, access, at_least, now);
            once().await;
            Ok(counted)
        }
        .boxed()
    }
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        ready(Ok(now())).boxed()
    }
    fn sweep_expired(&self, _: Timestamp, _: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn remove<'a>(&'a self, _: &'a Filter, _: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }

    fn vanish<'a>(&'a self, _: &'a Vanish, _: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        ready(Err(StoreError::Closed)).boxed()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
