//! Connections, statements and servers that break in the middle (docs/decisions/0008): nothing is ever half written,
//! and what was acknowledged is there.

use super::*;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(20);

/// Holds the lock on the head, so that a writer waits in the middle of its transaction.
async fn hold_head(server: &Server) -> PgConnection {
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    run(&mut conn, "SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT FROM head FOR UPDATE").await;
    conn
}

/// The process of a writer that waits for a lock.
async fn waiting_writer(server: &Server) -> i32 {
    let mut conn = server.connect().await;
    let deadline = Instant::now() + SOON;
    loop {
        let sql = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%change(%'";
        if let Some(pid) = sqlx::query_scalar(sql).fetch_optional(&mut conn).await.unwrap() {
            return pid;
        }
        assert!(Instant::now() < deadline, "no writer waits");
        tokio::task::yield_now().await;
    }
}

fn batch(server: &Server) -> Vec<Verified> {
    let number = server.next();
    let note = |n: u64| event(1, 1, 10, &[tag("t", "x"), tag("n", "y")], &format!("{number} {n}"));
    let mut batch: Vec<_> = (0..20).map(note).collect();
    batch.push(event(1, 0, i64::try_from(number).unwrap(), &[], "profile"));
    batch.push(deletion_of(&batch[3]));
    batch
}

fn spawn(mut conn: PgConnection, hasher: Hasher, batch: Vec<Verified>) -> JoinHandle<Result<Appended, StoreError>> {
    tokio::spawn(async move { put(&mut conn, &hasher, &batch).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_killed_in_the_middle_leaves_nothing() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let batch = batch(&server);
    let mut holder = hold_head(&server).await;
    let writer = spawn(server.connect().await, hasher, batch.clone());
    let pid = waiting_writer(&server).await;
    sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&mut conn).await.unwrap();
    writer.await.unwrap().unwrap_err();
    run(&mut holder, "ROLLBACK").await;
    assert_whole(&mut conn).await;
    assert_eq!(number(&mut conn, "SELECT count(*) FROM event").await, 0);
    let done = put(&mut conn, &hasher, &batch).await.unwrap();
    assert_eq!((done.outcomes, done.head.position), (vec![Outcome::Stored; 22], Position(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_lost_connection_the_second_call_finds_out() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let batch = batch(&server);
    let mut holder = hold_head(&server).await;
    let writer = spawn(server.connect().await, hasher, batch.clone());
    waiting_writer(&server).await;
    // The client goes; the server does not notice, and will commit.
    writer.abort();
    let _ = writer.await;
    let again = spawn(server.connect().await, hasher, batch.clone());
    run(&mut holder, "ROLLBACK").await;
    let done = timeout(SOON, again).await.unwrap().unwrap().unwrap();
    // The note that its own batch deletes leaves no duplicate: its tombstone answers.
    let mut expected = vec![Outcome::Duplicate; 22];
    expected[3] = Outcome::Deleted;
    assert_eq!((done.outcomes, done.head.position), (expected, Position(1)));
    assert_whole(&mut conn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_fails_at_the_end_takes_all_back() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let first = batch(&server);
    put(&mut conn, &hasher, &first).await.unwrap();
    run(
        &mut conn,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'full' USING ERRCODE = 'disk_full'; END $$;
         CREATE TRIGGER fail BEFORE UPDATE ON head FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    .await;
    let second = batch(&server);
    let failed = put(&mut conn, &hasher, &second).await;
    assert!(matches!(failed, Err(StoreError::Full)), "{failed:?}");
    assert_whole(&mut conn).await;
    assert_eq!(number(&mut conn, "SELECT count(*) FROM event").await, 21);
    run(&mut conn, "DROP TRIGGER fail ON head").await;
    assert_eq!(put(&mut conn, &hasher, &second).await.unwrap().outcomes, [Outcome::Stored; 22]);
    assert_whole(&mut conn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_waits_too_long_gives_up_whole() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let mut holder = hold_head(&server).await;
    run(&mut conn, "SET statement_timeout = '300ms'").await;
    let batch = batch(&server);
    assert!(matches!(put(&mut conn, &hasher, &batch).await, Err(StoreError::Timeout)));
    run(&mut holder, "ROLLBACK").await;
    assert_eq!(put(&mut conn, &hasher, &batch).await.unwrap().outcomes, [Outcome::Stored; 22]);
}

/// How long a writer waits for one that stopped while it held all others back; at most five seconds.
async fn wait_behind_a_sleeper(bounded: bool) -> Duration {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let mut sleeper = server.connect().await;
    if !bounded {
        run(&mut sleeper, "SET idle_in_transaction_session_timeout = 0").await;
    }
    run(&mut sleeper, "BEGIN; SELECT hold_the_gate(); SELECT FROM head FOR UPDATE").await;
    let started = Instant::now();
    let batch = batch(&server);
    let _ = timeout(Duration::from_secs(5), put(&mut conn, &hasher, &batch)).await;
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_lock_holder_blocks_for_a_second() {
    assert!(wait_behind_a_sleeper(true).await < Duration::from_secs(4));
    assert!(wait_behind_a_sleeper(false).await >= Duration::from_secs(5), "the control");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_synchronous_standby_nothing_is_acknowledged_and_nothing_lost() {
    let mut server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let primary = server.cluster.primary_mut().unwrap();
    primary.set(&[("synchronous_standby_names", "nobody")]).await.unwrap();
    run(&mut conn, "SET statement_timeout = '300ms'").await;
    let batch = batch(&server);
    // No timeout of the server bounds the wait for the standby: the client gives up.
    let lost = timeout(Duration::from_secs(2), put(&mut conn, &hasher, &batch)).await;
    assert!(lost.is_err(), "{lost:?}");
    drop(conn);
    let mut conn = server.connect().await;
    assert_eq!(number(&mut conn, "SELECT count(*) FROM event").await, 0, "nobody sees what nobody confirmed");
    let again = spawn(server.connect().await, hasher, batch);
    server.cluster.primary_mut().unwrap().set(&[("synchronous_standby_names", "")]).await.unwrap();
    let done = timeout(SOON, again).await.unwrap().unwrap().unwrap();
    assert_eq!(done.outcomes[0], Outcome::Duplicate);
    assert_whole(&mut conn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_server_has_everything_that_was_acknowledged() {
    let mut server = Server::start().await;
    let (_, hasher) = server.migrated().await;
    let mut writers = JoinSet::new();
    for writer in 0..3_u64 {
        let mut conn = server.connect().await;
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                let batch: Vec<_> = (0..10)
                    .map(|m| event(1, 1, 10, &[tag("t", "x")], &format!("{writer} {n} {m}")))
                    .chain([event(1, 0, n, &[], "profile")])
                    .collect();
                match put(&mut conn, &hasher, &batch).await {
                    Ok(_) => acknowledged.extend(batch[..10].iter().map(|event| event.event().id())),
                    Err(_) => break,
                }
            }
            acknowledged
        });
    }
    let mut conn = server.connect().await;
    while number(&mut conn, "SELECT position FROM head").await < 60 {}
    server.cluster.primary_mut().unwrap().kill().await.unwrap();
    let acknowledged: Vec<EventId> = writers.join_all().await.into_iter().flatten().collect();
    server.cluster.primary_mut().unwrap().start().await.unwrap();
    let mut conn = server.connect().await;
    let seen = Seen::look(&mut conn, acknowledged.clone(), &[], &[]).await.unwrap();
    assert!(acknowledged.len() >= 500 && acknowledged.iter().all(|id| seen.stored.contains(id)));
    assert_whole(&mut conn).await;
}
