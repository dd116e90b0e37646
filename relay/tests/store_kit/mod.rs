//! Helpers of the stores' tests: events made from small numbers, and filters.
#![allow(dead_code, unused_imports, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod replicas;

pub use replicas::through_replicas;

use deploy::postgres::PostgresCluster;
use relay::config::{Durability, Redacted};
use relay::store::postgres::{Connections, Options as PostgresOptions, PostgresStore, Thresholds};
use relay::store::sqlite::{Options, SqliteStore};
use relay::store::{Appended, Outcome, Page, Read, Store};
use relay::types::{
    Access, Change, Event, EventId, Filter, Key, Kind, Position, PublicKey, RemovalCause, TagFilter, Timestamp,
    Verified,
};
use sqlx::AssertSqlSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

pub const NOW: Timestamp = 1_800_000_000;

/// The `n`-th author.
pub fn author(n: u8) -> PublicKey {
    let mut bytes = [0x5a; 32];
    bytes[0] = n;
    PublicKey::from_bytes(bytes)
}

/// A tag: `tag("e", "…")`.
pub fn tag(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}

/// An unsigned event; `content` tells apart events that are otherwise equal.
pub fn event(n: u8, kind: u16, created_at: Timestamp, tags: &[Vec<String>], content: &str) -> Arc<Event> {
    Arc::new(Event::build(author(n), created_at, Kind(kind), tags, content, |_| [7; 64]))
}

/// Another id with the same beginning.
pub fn almost(id: EventId) -> EventId {
    let mut bytes = *id.as_bytes();
    bytes[31] ^= 1;
    EventId::from_bytes(bytes)
}

/// Two events that differ in id only, the lower id first.
pub fn twins(n: u8, kind: u16, created_at: Timestamp, tags: &[Vec<String>]) -> (Arc<Event>, Arc<Event>) {
    let (one, two) = (event(n, kind, created_at, tags, "one"), event(n, kind, created_at, tags, "two"));
    if one.id() < two.id() { (one, two) } else { (two, one) }
}

/// A kind 5 by author `n`.
pub fn deletion(n: u8, created_at: Timestamp, tags: &[Vec<String>]) -> Arc<Event> {
    event(n, 5, created_at, tags, "")
}

/// The `e` tag that names `target`.
pub fn e(target: &Event) -> Vec<String> {
    tag("e", &target.id().to_hex())
}

/// The `a` tag of an address of author `n`.
pub fn a(n: u8, kind: u16, identifier: &str) -> Vec<String> {
    tag("a", &format!("{kind}:{}:{identifier}", author(n)))
}

pub fn tag_filter(letter: u8, values: &[&str]) -> TagFilter {
    let mut values: Vec<Box<str>> = values.iter().map(|value| Box::from(*value)).collect();
    values.sort();
    values.dedup();
    TagFilter { letter, values: values.into() }
}

/// The conditions of an `&x` (NIP-91): all of these values must be there.
pub fn all_of(letter: u8, values: &[&str]) -> Vec<TagFilter> {
    tag_filter(letter, values).values.iter().map(|value| tag_filter(letter, &[&**value])).collect()
}

pub fn sorted<T: Ord + Clone>(list: &[T]) -> Option<Box<[T]>> {
    let mut list = list.to_vec();
    list.sort();
    list.dedup();
    Some(list.into())
}

/// Everything.
pub fn all() -> Filter {
    Filter::default()
}

/// Appends at [`NOW`].
pub async fn append(store: &dyn Store, events: &[&Arc<Event>]) -> Appended {
    append_at(store, events, NOW).await
}

pub async fn append_at(store: &dyn Store, events: &[&Arc<Event>], now: Timestamp) -> Appended {
    store.append(events.iter().map(|event| Verified::vouch((*event).clone())).collect(), now).await.unwrap()
}

/// Appends one event alone; returns its outcome.
pub async fn put(store: &dyn Store, event: &Arc<Event>) -> Outcome {
    append(store, &[event]).await.outcomes[0]
}

/// A read by the relay itself.
pub fn ask(filter: &Filter, limit: usize) -> Read<'_> {
    Read {
        filter,
        limit,
        after: None,
        access: None,
        at_least: Position::default(),
        now: NOW,
        max_text_bytes: usize::MAX,
    }
}

pub async fn page(store: &dyn Store, filter: &Filter, limit: usize) -> Page {
    store.read(&ask(filter, limit)).await.unwrap()
}

pub async fn page_for(store: &dyn Store, filter: &Filter, access: &Access) -> Page {
    store.read(&Read { access: Some(access), ..ask(filter, 100) }).await.unwrap()
}

/// The ids of a page's rows, in order.
pub fn ids(page: &Page) -> Vec<EventId> {
    page.rows.iter().map(|row| row.key.id).collect()
}

/// The ids of everything that `filter` selects.
pub async fn stored(store: &dyn Store, filter: &Filter) -> Vec<EventId> {
    let page = page(store, filter, 1000).await;
    assert!(page.complete && page.rest.is_empty());
    ids(&page)
}

pub fn id_list(events: &[&Arc<Event>]) -> Vec<EventId> {
    events.iter().map(|event| event.id()).collect()
}

/// A change as a word and an id.
pub fn words(changes: &[Change]) -> Vec<(&'static str, EventId)> {
    changes
        .iter()
        .map(|change| match change {
            Change::Inserted(insertion) => ("inserted", insertion.event.id()),
            Change::Removed(removal) => (
                match removal.cause {
                    RemovalCause::Replaced => "replaced",
                    RemovalCause::Deleted => "deleted",
                    RemovalCause::Expired => "expired",
                    RemovalCause::Administered => "administered",
                    RemovalCause::Vanished => "vanished",
                },
                removal.id(),
            ),
        })
        .collect()
}

pub fn key(event: &Event) -> Key {
    Key { created_at: event.created_at(), id: event.id() }
}

/// A reader that has authenticated with these keys.
pub fn reader(keys: &[u8]) -> Access {
    Access { authenticated: keys.iter().map(|n| author(*n)).collect(), ..Access::default() }
}

/// A new SQLite store in `folder`, its hashes cut to `hash_bits`.
pub async fn sqlite(folder: &std::path::Path, hash_bits: u32) -> SqliteStore {
    let options = Options { durability: Durability::Relaxed, hash_bits, ..Options::new(folder.join("relay.db")) };
    SqliteStore::open(options).await.unwrap()
}

/// The servers of this test program; they end with it.
struct Server {
    cluster: PostgresCluster,
    databases: AtomicU64,
}

static ALONE: OnceCell<Server> = OnceCell::const_new();
static REPLICATED: OnceCell<Server> = OnceCell::const_new();

/// The template of all databases: copying it is faster than migrating.
const TEMPLATE: &str = "skein";

impl Server {
    async fn start(replicas: usize) -> Self {
        let cluster = PostgresCluster::setup().replicas(replicas).set("fsync", "off").start().await.unwrap();
        let primary = cluster.primary().unwrap();
        primary.execute(&format!("CREATE DATABASE {TEMPLATE}")).await.unwrap();
        open(&[primary.database_url(TEMPLATE)], Thresholds::default()).await.close().await;
        Self { cluster, databases: AtomicU64::new(0) }
    }

    /// A store in a database of its own, its hashes cut to `hash_bits`.
    async fn store(&self, hash_bits: u32, thresholds: Thresholds) -> PostgresStore {
        let primary = self.cluster.primary().unwrap();
        let name = format!("store_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        primary.execute(&format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await.unwrap();
        let url = primary.database_url(&name);
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
        let sql = format!("UPDATE hashing SET bits = {hash_bits}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        self.cluster.wait_applied().await.unwrap();
        open(&self.cluster.database_urls(&name), thresholds).await
    }
}

async fn open(urls: &[String], thresholds: Thresholds) -> PostgresStore {
    let few = Connections { min: 1, max: 4 };
    let options = PostgresOptions {
        primary_connections: few,
        replica_connections: few,
        thresholds,
        ..PostgresOptions::new(urls.iter().map(Redacted::new))
    };
    PostgresStore::open(options).await.unwrap()
}

/// A new store on Postgres, its hashes cut to `hash_bits`.
pub async fn postgres(hash_bits: u32) -> PostgresStore {
    ALONE.get_or_init(|| Server::start(0)).await.store(hash_bits, Thresholds::default()).await
}

/// The same, with thresholds so small that the planner also chooses the forms that otherwise only long lists need.
pub async fn postgres_of_small_thresholds(hash_bits: u32) -> PostgresStore {
    let thresholds = Thresholds {
        first_bound: 2,
        probe_rows: 12,
        further_bound: 8,
        recent_rows: 6,
        least_lists: 1,
        renewed_after: Duration::ZERO,
    };
    ALONE.get_or_init(|| Server::start(0)).await.store(hash_bits, thresholds).await
}
