//! Helpers of the tests of faults: a store on a cluster, reads, and waits.

use crate::store_kit::{self, NOW};
use deploy::postgres::PostgresCluster;
use deploy::{STEP_TIMEOUT, until};
use relay::config::Redacted;
use relay::store::postgres::{Condition, NodeStatus, Options, PostgresStore, Role};
use relay::store::{Page, Store, StoreError};
use relay::types::{Event, EventId, Filter, Position, Verified};
use std::sync::Arc;
use std::time::Duration;

/// Options for tests: small pools, and short waits, so that a failing test fails soon.
pub fn options(urls: &[String]) -> Options {
    Options { acquire_timeout: Duration::from_secs(3), ..Options::new(urls.iter().map(Redacted::new)) }
}

pub async fn open(options: Options) -> PostgresStore {
    PostgresStore::open(options).await.unwrap()
}

/// A note that differs from all others.
pub fn note(n: usize) -> Arc<Event> {
    store_kit::event((n % 200) as u8, 1, NOW - 1_000 + (n % 1_000) as i64, &[], &format!("note {n}"))
}

pub async fn append(store: &dyn Store, event: &Arc<Event>) -> Result<Position, StoreError> {
    store.append(vec![Verified::vouch(event.clone())], NOW).await.map(|appended| appended.head.position)
}

pub async fn read(store: &dyn Store, at_least: Position) -> Result<Page, StoreError> {
    let filter = Filter::default();
    store.read(&relay::store::Read { at_least, ..store_kit::ask(&filter, 10) }).await
}

/// How many of `ids` the primary has, once it has all or the time is over.
pub async fn missing(cluster: &PostgresCluster, database: &str, ids: &[EventId]) -> usize {
    let mut missing = 0;
    let url = cluster.primary().unwrap().database_url(database);
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    for id in ids {
        let found = sqlx::query("SELECT 1 FROM event WHERE id = $1").bind(&id.as_bytes()[..]);
        missing += usize::from(found.fetch_optional(&mut connection).await.unwrap().is_none());
    }
    missing
}

/// The status of the server at this port.
pub fn node(store: &PostgresStore, port: u16) -> NodeStatus {
    store.status().into_iter().find(|node| node.node.contains(&format!(":{port}/"))).unwrap()
}

pub async fn wait_for(store: &PostgresStore, port: u16, what: &str, is: impl Fn(&NodeStatus) -> bool) {
    let check = async || {
        let node = node(store, port);
        if is(&node) { Ok(()) } else { Err(format!("{node:?}")) }
    };
    until(what, STEP_TIMEOUT, check).await.unwrap();
}

/// Waits until every server is found and serves.
pub async fn wait_whole(store: &PostgresStore, servers: usize) {
    let check = async || {
        let nodes = store.status();
        let whole = nodes.iter().filter(|node| node.role != Role::Unknown && node.condition == Condition::Healthy);
        if whole.count() == servers { Ok(()) } else { Err(format!("{nodes:?}")) }
    };
    until("every server to serve", STEP_TIMEOUT, check).await.unwrap();
}

/// Reads until the server at this port has answered one more.
pub async fn wait_read(store: &PostgresStore, port: u16) {
    let before = node(store, port).reads;
    let check = async || {
        read(store, Position::default()).await.map_err(|error| error.to_string())?;
        let node = node(store, port);
        if node.reads > before { Ok(()) } else { Err(format!("{node:?}")) }
    };
    until("the server to answer a read", STEP_TIMEOUT, check).await.unwrap();
}
