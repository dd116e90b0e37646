//! The writer against a real server: races, faults, epochs. Each race has a control that takes the check under the lock
//! out of the database function.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::Outcome;
use crate::store::postgres::{log, maintenance::partitions, schema};
use crate::types::{Change, PublicKey};
use deploy::postgres::PostgresCluster;
use sqlx::AssertSqlSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

mod epochs;
mod faults;
mod following;
mod identifiers;
mod maintenance;
mod races;
mod speed;

const NOW: Timestamp = 1_800_000_000;

/// A small server of its own, with a migrated database.
struct Server {
    cluster: PostgresCluster,
    made: AtomicU64,
}

impl Server {
    async fn start() -> Self {
        Self { cluster: PostgresCluster::setup().start().await.unwrap(), made: AtomicU64::new(0) }
    }

    fn url(&self) -> String {
        self.cluster.primary().unwrap().url()
    }

    /// A connection as the relay opens it.
    async fn connect(&self) -> PgConnection {
        connect(&self.url()).await
    }

    async fn migrated(&self) -> (PgConnection, Hasher) {
        let mut conn = self.connect().await;
        let hasher = schema::migrate(&mut conn).await.unwrap();
        (conn, hasher)
    }

    /// A number that no other call got.
    fn next(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }
}

async fn connect(url: &str) -> PgConnection {
    let mut conn = PgConnection::connect(url).await.unwrap();
    run(&mut conn, "SET plan_cache_mode = force_generic_plan; SET idle_in_transaction_session_timeout = '1s'").await;
    conn
}

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

async fn number(conn: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(conn).await.unwrap()
}

/// Takes the check under the lock out of `change`: for controls.
async fn without_check(conn: &mut PgConnection) {
    let source = "SELECT pg_get_functiondef('change'::regproc)";
    let source: String = sqlx::query_scalar(source).fetch_one(&mut *conn).await.unwrap();
    let check = "IF h.epoch <> seen_epoch OR h.position <> seen_position THEN";
    assert_eq!(source.matches(check).count(), 1);
    run(conn, &source.replace(check, "IF false THEN")).await;
}

fn author(n: u8) -> PublicKey {
    PublicKey::from_bytes([n; 32])
}

fn tag(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}

fn event(n: u8, kind: u16, created_at: Timestamp, tags: &[Vec<String>], content: &str) -> Verified {
    Verified::vouch(Arc::new(Event::build(author(n), created_at, Kind(kind), tags, content, |_| [7; 64])))
}

fn deletion_of(target: &Verified) -> Verified {
    let target = target.event();
    Verified::vouch(Arc::new(Event::build(
        target.pubkey(),
        target.created_at() + 1,
        Kind::DELETION,
        &[tag("e", &target.id().to_hex())],
        "",
        |_| [7; 64],
    )))
}

async fn put(conn: &mut PgConnection, hasher: &Hasher, batch: &[Verified]) -> Result<Appended, StoreError> {
    append(conn, hasher, Epoch(0), batch, NOW).await
}

/// What must hold for the tables at any time: nothing half written, no position missing, no tag without its event.
async fn assert_whole(conn: &mut PgConnection) {
    for (what, sql) in [
        (
            "keys without a text",
            "SELECT count(*) FROM event e WHERE NOT EXISTS (SELECT FROM event_text t WHERE t.id = e.id)",
        ),
        (
            "texts without a key",
            "SELECT count(*) FROM event_text t WHERE NOT EXISTS (SELECT FROM event e WHERE e.id = t.id)",
        ),
        (
            "tags without an event, or missing",
            "SELECT count(*) FROM (SELECT h, id FROM tag) t FULL JOIN (SELECT unnest(tags) h, id FROM event_text) x \
             USING (h, id) WHERE t.id IS NULL OR x.id IS NULL",
        ),
        ("positions missing", "SELECT (SELECT position FROM head) - (SELECT count(*) FROM log)"),
        (
            "changes that do not add up",
            "SELECT (SELECT count(*) FROM event) - (SELECT coalesce(sum(CASE WHEN op = 0 THEN 1 ELSE -1 END), 0) \
             FROM log, unnest(ops) op)",
        ),
        (
            "addresses whose version is gone",
            "SELECT count(*) FROM address a WHERE a.id IS NOT NULL AND NOT EXISTS \
             (SELECT FROM event e WHERE e.id = a.id)",
        ),
    ] {
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut *conn).await.unwrap();
        assert_eq!(found, 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused_and_two_instances_migrate_one_after_the_other() {
    let server = Server::start().await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    let (first, second) = tokio::join!(schema::migrate(&mut one), schema::migrate(&mut two));
    let same = |hasher: Hasher| hasher.tag(b't', "x");
    assert_eq!(same(first.unwrap()), same(second.unwrap()));
    run(
        &mut one,
        "UPDATE _sqlx_migrations SET version = 99 WHERE version = (SELECT max(version) FROM _sqlx_migrations)",
    )
    .await;
    let refused = schema::migrate(&mut server.connect().await).await;
    assert!(matches!(refused, Err(StoreError::TooNew { found: 99, .. })), "{refused:?}");
    assert!(matches!(schema::hasher(&mut two).await, Err(StoreError::TooNew { found: 99, .. })));
}
