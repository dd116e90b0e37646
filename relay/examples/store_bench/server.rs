//! PostgreSQL: a server given by its URL, or one started for the benchmark.

use crate::world::World;
use crate::{Arguments, fill, reading};
use deploy::postgres::PostgresCluster;
use relay::config::Redacted;
use relay::store::Store;
use relay::store::postgres::{Options, PostgresStore, ServerInspector};
use relay::types::{Access, Filter, Position};
use sqlx::{Connection, Executor, PgConnection};
use std::sync::Arc;

/// The settings of a server whose size suits the data.
const SETTINGS: [(&str, &str); 5] = [
    ("shared_buffers", "1GB"),
    ("effective_cache_size", "4GB"),
    ("max_wal_size", "4GB"),
    ("work_mem", "16MB"),
    ("maintenance_work_mem", "256MB"),
];

pub(crate) async fn run(arguments: &Arguments) {
    let given = arguments.text("--postgres");
    let own = match &given {
        Some(_) => None,
        None => {
            let setup = SETTINGS.iter().fold(PostgresCluster::setup(), |setup, (key, value)| setup.set(key, value));
            Some(setup.start().await.unwrap())
        }
    };

    let url = given.or_else(|| own.as_ref()?.database_urls("postgres").into_iter().next()).unwrap();
    let store = PostgresStore::open(Options::new([Redacted::new(url.clone())])).await.unwrap();
    let have = store.count(&[Filter::default()], &Access::default(), Position::default(), 0).await.unwrap().number;
    let mut world = World::new();
    fill(&store, &mut world, arguments.number("--events", 1_000_000), have).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();

    // Autovacuum would do this a moment later.
    connection.execute("VACUUM (ANALYZE) event, event_text, tag").await.unwrap();
    sizes(&mut connection).await;
    let inspector = ServerInspector::connect(&Redacted::new(url)).await.unwrap();
    reading::measure(Arc::new(store.clone()), &mut world, arguments, Some(inspector)).await;
    store.close().await;
    if !arguments.has("--keep") && own.is_none() {
        println!("the events stay where they are: drop the database when done");
    }
}

/// Bytes an event, by relation.
async fn sizes(connection: &mut PgConnection) {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT p.oid::regclass::text, sum(pg_relation_size(c.oid))::int8, \
         (SELECT count(*) FROM event)::int8 FROM pg_class c CROSS JOIN LATERAL (SELECT coalesce((SELECT inhparent FROM pg_inherits \
         WHERE inhrelid = c.oid), c.oid) AS oid) p \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i') \
         GROUP BY 1 HAVING sum(pg_relation_size(c.oid)) > 1000000 ORDER BY 2 DESC",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    for (relation, bytes, events) in rows {
        println!("{:7.1} bytes an event: {relation}", bytes as f64 / events.max(1) as f64);
    }
}
