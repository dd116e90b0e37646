//! Partitions are made and dropped beside writers and readers (docs/decisions/0008).

use super::*;
use std::time::Duration;
use tokio::time::{Instant, timeout};

async fn partitions_of(conn: &mut PgConnection, table: &str) -> Vec<String> {
    let sql = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::regclass ORDER BY 1";
    sqlx::query_scalar(sql).bind(table).fetch_all(conn).await.unwrap()
}

/// Drops the partitions of the future, so that they have to be made again.
async fn forget_the_future(conn: &mut PgConnection) -> (Vec<String>, Vec<String>) {
    let (months, days) = (partitions_of(conn, "event_text").await, partitions_of(conn, "log").await);
    let (months, days) = (&months[37..40], &days[1..4]);
    run(conn, &format!("DROP TABLE {}, {}", months.join(", "), days.join(", "))).await;
    (months.to_vec(), days.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coming_partitions_are_made_beside_a_reader() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    assert_eq!(partitions::prepare(&mut conn).await.unwrap(), partitions::Prepared::default(), "all are there");
    let before = (partitions_of(&mut conn, "event_text").await, partitions_of(&mut conn, "log").await);
    let (months, days) = forget_the_future(&mut conn).await;
    // One of the months has a row in the default partition already.
    let next = number(&mut conn, "SELECT extract(epoch FROM now() + interval '2 months')::int8").await;
    put(&mut conn, &hasher, &[event(1, 1, next, &[], "from the future")]).await.unwrap();

    // A reader that stays open on the default partitions: the maintenance waits for it, and nobody waits for the
    // maintenance.
    let mut reader = PgConnection::connect(&server.url()).await.unwrap();
    run(
        &mut reader,
        "SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT FROM event_text LIMIT 1; SELECT FROM log LIMIT 1",
    )
    .await;
    let mut connection = server.connect().await;
    let prepare = tokio::spawn(async move { partitions::prepare(&mut connection).await });
    let mut longest = Duration::ZERO;
    for n in 0..40 {
        let started = Instant::now();
        put(&mut conn, &hasher, &[event(1, 1, 10, &[], &n.to_string())]).await.unwrap();
        longest = longest.max(started.elapsed());
    }
    run(&mut reader, "COMMIT").await;
    let prepared = timeout(Duration::from_secs(30), prepare).await.unwrap().unwrap().unwrap();
    assert!(longest < Duration::from_secs(1), "a writer waited {longest:?}");
    assert_eq!(prepared, partitions::Prepared { made: [months.clone(), days].concat(), left: Vec::new() });
    assert_eq!((partitions_of(&mut conn, "event_text").await, partitions_of(&mut conn, "log").await), before);
    let sql = format!("SELECT count(*) FROM {} WHERE created_at = {next}", months[1]);
    let moved: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut conn).await.unwrap();
    assert_eq!(moved, 1, "what the default partition had of that month has moved in");
    let constraints = "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'keeper%'";
    assert_eq!(number(&mut conn, constraints).await, 0);
    // A new partition takes the rows of its range.
    let soon = number(&mut conn, "SELECT extract(epoch FROM now() + interval '1 month')::int8").await;
    put(&mut conn, &hasher, &[event(1, 1, soon, &[], "")]).await.unwrap();
    let sql = format!("SELECT count(*) FROM {}", months[0]);
    let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut conn).await.unwrap();
    assert_eq!(found, 1);
    assert_whole(&mut conn).await;
}

/// Makes a partition in the ordinary way: its statement waits for the reader, and every writer waits behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_without_a_bound_on_waiting_a_new_partition_stops_writers() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let mut reader = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut reader, "SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT FROM event_text LIMIT 1").await;
    let mut maker = PgConnection::connect(&server.url()).await.unwrap();
    let making = tokio::spawn(async move {
        run(&mut maker, "CREATE TABLE far PARTITION OF event_text FOR VALUES FROM (90000000000) TO (90000000001)")
            .await;
    });
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE TABLE far%'";
    timeout(Duration::from_secs(30), async { while number(&mut conn, waits).await == 0 {} }).await.unwrap();
    let put = timeout(Duration::from_secs(2), put(&mut conn, &hasher, &[event(1, 1, 10, &[], "")])).await;
    assert!(put.is_err(), "a writer was not kept waiting");
    run(&mut reader, "COMMIT").await;
    timeout(Duration::from_secs(30), making).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_days_of_the_log_go() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    for n in 0..3 {
        put(&mut conn, &hasher, &[event(1, 1, n, &[], "")]).await.unwrap();
    }
    // Position 1 is older than any partition, and 2 is in a partition of its own.
    run(
        &mut conn,
        "UPDATE log SET at = now() - interval '9 days' WHERE position = 1;
         DO $$ BEGIN EXECUTE format('CREATE TABLE %s PARTITION OF log FOR VALUES FROM (%L) TO (%L)',
             to_char(now() AT TIME ZONE 'UTC' - interval '5 days', '\"log_\"YYYY_MM_DD'),
             date_trunc('day', now(), 'UTC') - interval '5 days', date_trunc('day', now(), 'UTC') - interval '4 days'); END $$;
         UPDATE log SET at = date_trunc('day', now(), 'UTC') - interval '4 days 1 hour' WHERE position = 2",
    )
    .await;
    assert_eq!(log::entries(&mut conn, Position(0), 10).await.unwrap().entries.len(), 3);
    assert!(partitions::drop_log_days(&mut conn, 20).await.unwrap().is_empty());
    assert_eq!(log::entries(&mut conn, Position(0), 10).await.unwrap().entries.len(), 3);
    assert_eq!(partitions::drop_log_days(&mut conn, 3).await.unwrap().len(), 1);
    assert!(matches!(log::entries(&mut conn, Position(0), 10).await, Err(StoreError::OutOfReach)));
    assert!(matches!(log::entries(&mut conn, Position(1), 10).await, Err(StoreError::OutOfReach)));
    assert_eq!(log::entries(&mut conn, Position(2), 10).await.unwrap().entries.len(), 1);
    put(&mut conn, &hasher, &[event(1, 1, 9, &[], "")]).await.unwrap();
}
