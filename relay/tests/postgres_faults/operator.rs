//! Changes that an operator or a hosting provider may make to a server: read-only mode, no new connections, relaxed
//! durability. And clients that disconnect in the middle of a query.

use crate::kit::*;
use deploy::postgres::PostgresCluster;
use relay::config::Redacted;
use relay::store::postgres::{Connections, Options, PostgresStore};
use relay::store::{SharedLog, Store, StoreError};
use relay::types::Position;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, Executor, PgConnection};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_made_read_only_goes_on_reading() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let primary = cluster.primary().unwrap();
    let store = open(options(&cluster.database_urls("postgres"))).await;
    append(&store, &note(0)).await.unwrap();
    let make_read_only = async |on: &str| {
        primary.execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {on}")).await.unwrap();
        primary.execute("SELECT pg_reload_conf()").await.unwrap();
    };

    make_read_only("on").await;
    // The server's processes take over the setting at different times.
    let next = AtomicUsize::new(1);
    let refused = async || match append(&store, &note(next.fetch_add(1, Ordering::Relaxed))).await {
        Err(StoreError::ReadOnly) => Ok(()),
        other => Err(format!("{other:?}")),
    };

    deploy::until("writes to be refused", deploy::STEP_TIMEOUT, refused).await.unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 1_000..1_020 {
                let start = Instant::now();
                let refused = append(&store, &note(n)).await;
                assert!(matches!(refused, Err(StoreError::ReadOnly)), "{refused:?}");
                assert!(start.elapsed() < Duration::from_secs(1), "told at once: {:?}", start.elapsed());
            }
        }
    });

    let mut reads = 0;
    while !writing.is_finished() || reads < 100 {
        assert!(!read(&store, Position::default()).await.unwrap().rows.is_empty());
        reads += 1;
    }
    writing.await.unwrap();
    let mut session = PgConnection::connect(&primary.database_url("postgres")).await.unwrap();
    for sql in [
        "SET default_transaction_read_only = off",
        "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    ] {
        session.execute(sql).await.unwrap();
    }

    let back = async || append(&store, &note(2_000)).await.map(drop).map_err(|error| error.to_string());
    deploy::until("writes to come back", deploy::STEP_TIMEOUT, back).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_there_serve_while_no_new_ones_can_be_made() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let primary = cluster.primary().unwrap();
    primary.execute("CREATE DATABASE closed").await.unwrap();
    let store = open(Options {
        primary_connections: Connections { min: 1, max: 8 },
        ..options(&cluster.database_urls("closed"))
    })
    .await;

    append(&store, &note(0)).await.unwrap();
    primary.execute("ALTER DATABASE closed ALLOW_CONNECTIONS false").await.unwrap();
    let new = PgConnection::connect(&primary.database_url("closed")).await;
    assert!(new.is_err(), "control: no new ones can be made");

    // More at a time than there are connections: they take turns.
    for read in futures_util::future::join_all((0..8).map(|_| read(&store, Position::default()))).await {
        assert_eq!(read.unwrap().rows.len(), 1);
    }
    for _ in 0..20 {
        assert_eq!(read(&store, Position::default()).await.unwrap().rows.len(), 1);
        store.shared_head().await.unwrap();
    }

    primary.execute("ALTER DATABASE closed ALLOW_CONNECTIONS true").await.unwrap();
    let crowd = async || {
        let crowd = (0..8).map(|_| read(&store, Position::default()));
        let failed = futures_util::future::join_all(crowd).await.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(error.to_string()))
    };

    deploy::until("all to be served", deploy::STEP_TIMEOUT, crowd).await.unwrap();
    store.close().await;
}

/// Bytes of the write-ahead log that are not on disk yet.
async fn unwritten(session: &mut PgConnection) -> i64 {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn())::int8";
    sqlx::query_scalar(sql).fetch_one(session).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_on_disk_whatever_the_server_does_by_default() {
    let cluster =
        PostgresCluster::setup().set("synchronous_commit", "off").set("wal_writer_delay", "10s").start().await.unwrap();
    let urls = cluster.database_urls("postgres");
    let store = open(options(&urls)).await;
    let mut session = PgConnection::connect(&urls[0]).await.unwrap();

    // Other activity of the server sometimes writes between the two.
    let mut on_disk = 0;
    for n in 0..20 {
        append(&store, &note(n)).await.unwrap();
        on_disk += usize::from(unwritten(&mut session).await == 0);
    }
    assert!(on_disk >= 15, "{on_disk} of 20");

    // Control: a session with the server's own settings.
    session.execute("CREATE TABLE control (n int)").await.unwrap();
    let mut late = 0;
    for _ in 0..20 {
        session.execute("INSERT INTO control VALUES (1)").await.unwrap();
        late += usize::from(unwritten(&mut session).await > 0);
    }
    assert!(late >= 15, "{late} of 20");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_leave_in_a_hurry_take_no_connection_from_writers() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let urls = cluster.database_urls("postgres");
    let store: PostgresStore = open(Options {
        primary_connections: Connections { min: 4, max: 4 },
        acquire_timeout: Duration::from_millis(1_500),
        ..Options::new(urls.iter().map(Redacted::new))
    })
    .await;

    append(&store, &note(0)).await.unwrap();
    let mut blocker = PgConnection::connect(&urls[0]).await.unwrap();
    blocker.execute("SET idle_in_transaction_session_timeout = 0").await.unwrap();
    blocker.execute("BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for _ in 0..12 {
        // Each is under way for a moment; its client closes it then.
        let hurried = tokio::time::timeout(Duration::from_millis(30), read(&store, Position::default())).await;
        assert!(hurried.is_err(), "control: the reads do not end by themselves");
        store.shared_head().await.unwrap();
    }

    blocker.execute("ROLLBACK").await.unwrap();
    read(&store, Position::default()).await.unwrap();
    append(&store, &note(1)).await.unwrap();
    store.close().await;
}

/// Runs a command of the program whose clients' statements may take a second.
fn command(url: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args(arguments).args(["--database-statement-timeout-seconds", "1"]);
    command.args(["--postgres-primary-statement-timeout-seconds", "1", "--database-urls", url]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A server with an event, and a session whose lock makes every read of it wait.
async fn blocked(cluster: &PostgresCluster) -> (PostgresStore, PgConnection) {
    let urls = cluster.database_urls("postgres");
    let store = open(options(&urls)).await;
    append(&store, &note(0)).await.unwrap();
    let mut blocker = PgConnection::connect(&urls[0]).await.unwrap();
    blocker.execute("SET idle_in_transaction_session_timeout = 0").await.unwrap();
    blocker.execute("BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE").await.unwrap();
    (store, blocker)
}

/// Waits until a statement of the program has waited for the lock for longer than a client's may take.
async fn waits_long(blocker: &mut PgConnection) {
    // The warming statements give up after 200 ms.
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
               AND clock_timestamp() - query_start > '1.5 s'";
    let deadline = Instant::now() + deploy::STEP_TIMEOUT;
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *blocker).await.unwrap() == 0 {
        assert!(Instant::now() < deadline, "nothing waits: the command has given up");
        // Without a fresh snapshot of the statistics its transaction would keep seeing the first one.
        blocker.execute("SELECT pg_stat_clear_snapshot(), pg_sleep(0.05)").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_takes_as_long_as_it_takes() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let (store, mut blocker) = blocked(&cluster).await;
    let url = &cluster.database_urls("postgres")[0];
    for (flags, words) in [(&[][..], "1 events match"), (&["--yes"], "1 events removed")] {
        let child = command(url, &[&["delete", "--filter", "{}"], flags].concat());
        waits_long(&mut blocker).await;
        blocker.execute("ROLLBACK").await.unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains(words), "{:?}", output.stdout);
        blocker.execute("BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE").await.unwrap();
    }
    blocker.execute("ROLLBACK").await.unwrap();
    assert!(read(&store, Position::default()).await.unwrap().rows.is_empty());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_stopped_leaves_nothing_behind() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let (store, mut blocker) = blocked(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.jsonl");
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = command(&cluster.database_urls("postgres")[0], &["export", to.to_str().unwrap()]);
        waits_long(&mut blocker).await;
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        assert!(files() > 0, "control: it has begun");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(files(), 0);
        // The server does not notice that the client has gone.
        blocker.execute("ROLLBACK; BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE").await.unwrap();
    }

    blocker.execute("ROLLBACK").await.unwrap();
    store.close().await;
}
