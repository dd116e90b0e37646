//! Checks this crate itself: servers start, replicate, fail over and stop, and leave no process behind.

#![allow(missing_docs, clippy::unwrap_used)]

use deploy::postgres::{PostgresCluster, Role};
use deploy::process::Identity;
use deploy::redis::RedisServer;
use deploy::{Error, Home, STEP_TIMEOUT, Signal, until};
use std::time::Duration;

const COUNT: &str = "SELECT count(*) FROM word";

fn identities(cluster: &PostgresCluster) -> Vec<Identity> {
    cluster.servers.iter().filter_map(|server| Some(server.process()?.identity())).collect()
}

fn alive(identities: &[Identity]) -> usize {
    identities.iter().filter(|identity| identity.is_alive()).count()
}

#[tokio::test]
async fn a_primary_and_two_replicas_come_up_replicate_and_go_down() {
    let mut cluster = PostgresCluster::setup().replicas(2).start().await.unwrap();
    let identities = identities(&cluster);
    assert_eq!(alive(&identities), 3);
    let primary = cluster.primary().unwrap();
    primary.execute("CREATE TABLE word (text text); INSERT INTO word VALUES ('one')").await.unwrap();
    cluster.wait_applied().await.unwrap();
    for name in ["replica-1", "replica-2"] {
        assert_eq!(cluster.server(name).unwrap().ask::<i64>(COUNT).await.unwrap(), 1, "{name}");
        assert!(cluster.server(name).unwrap().execute("DELETE FROM word").await.is_err(), "{name} takes writes");
    }

    // While replay is paused, new rows are received but not visible.
    cluster.server("replica-1").unwrap().pause_replay().await.unwrap();
    cluster.primary().unwrap().execute("INSERT INTO word VALUES ('two')").await.unwrap();
    until("the other replica to see it", STEP_TIMEOUT, async || {
        match cluster.server("replica-2").unwrap().ask::<i64>(COUNT).await {
            Ok(2) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    assert_eq!(cluster.server("replica-1").unwrap().ask::<i64>(COUNT).await.unwrap(), 1);
    cluster.server("replica-1").unwrap().resume_replay().await.unwrap();
    cluster.wait_applied().await.unwrap();
    assert_eq!(cluster.server("replica-1").unwrap().ask::<i64>(COUNT).await.unwrap(), 2);

    // A delay of replay takes effect, and can be removed.
    let late = cluster.server_mut("replica-2").unwrap();
    late.apply_delay(Duration::from_secs(3600)).await.unwrap();
    cluster.primary().unwrap().execute("INSERT INTO word VALUES ('three')").await.unwrap();
    let behind = tokio::time::timeout(Duration::from_millis(300), cluster.wait_applied()).await;
    assert!(behind.is_err(), "a replica with an hour's delay has applied");
    cluster.server_mut("replica-2").unwrap().apply_delay(Duration::ZERO).await.unwrap();
    cluster.wait_applied().await.unwrap();

    // A replica that was killed with its backends starts again and catches up.
    cluster.server_mut("replica-1").unwrap().kill().await.unwrap();
    cluster.primary().unwrap().execute("INSERT INTO word VALUES ('four')").await.unwrap();
    cluster.server_mut("replica-1").unwrap().start().await.unwrap();
    cluster.wait_applied().await.unwrap();
    assert_eq!(cluster.server("replica-1").unwrap().ask::<i64>(COUNT).await.unwrap(), 4);

    let identities = [identities, self::identities(&cluster)].concat();
    cluster.stop().await.unwrap();
    assert_eq!(alive(&identities), 0);
}

#[tokio::test]
async fn a_failover_promotes_whoever_received_the_most() {
    let mut cluster = PostgresCluster::setup().replicas(2).synchronous(true).start().await.unwrap();
    let names: String = cluster.primary().unwrap().ask("SHOW synchronous_standby_names").await.unwrap();
    assert_eq!(names, r#"ANY 1 ("replica-1", "replica-2")"#);
    cluster.primary().unwrap().execute("CREATE TABLE word (text text)").await.unwrap();
    cluster.wait_applied().await.unwrap();

    // The first replica is stopped while a commit is acknowledged thanks to the second, and runs again before the
    // failover.
    cluster.server_mut("replica-1").unwrap().stop().await.unwrap();
    cluster.primary().unwrap().execute("INSERT INTO word VALUES ('kept')").await.unwrap();
    cluster.primary_mut().unwrap().kill().await.unwrap();
    cluster.server_mut("replica-1").unwrap().start().await.unwrap();
    let failover = cluster.failover().await.unwrap();
    assert_eq!((failover.fenced.as_str(), failover.promoted.as_str()), ("primary", "replica-2"), "{failover:?}");
    assert!(failover.received[0].1 < failover.received[1].1, "{failover:?}");
    assert_eq!(failover.absent, Vec::<String>::new());

    // The new primary takes writes, and waits for its one follower.
    let primary = cluster.primary().unwrap();
    assert_eq!((primary.name(), primary.role()), ("replica-2", Role::Primary));
    assert_eq!(primary.ask::<i64>(COUNT).await.unwrap(), 1);
    let names: String = primary.ask("SHOW synchronous_standby_names").await.unwrap();
    assert_eq!(names, r#"ANY 1 ("replica-1")"#);
    primary.execute("INSERT INTO word VALUES ('new')").await.unwrap();
    cluster.wait_applied().await.unwrap();
    assert_eq!(cluster.server("replica-1").unwrap().ask::<i64>(COUNT).await.unwrap(), 2);

    // The old primary comes back as a replica, and may become the primary again.
    assert!(cluster.servers[0].start().await.is_err(), "it would be a second primary");
    cluster.start().await.unwrap();
    cluster.wait_applied().await.unwrap();
    assert_eq!(cluster.server("primary").unwrap().role(), Role::Replica);
    assert_eq!(cluster.server("primary").unwrap().ask::<i64>(COUNT).await.unwrap(), 2);
    let failover = cluster.failover().await.unwrap();
    assert_eq!(failover.fenced, "replica-2");
    cluster.primary().unwrap().execute("INSERT INTO word VALUES ('newer')").await.unwrap();
    let identities = identities(&cluster);
    drop(cluster);
    assert_eq!(alive(&identities), 0);
}

#[tokio::test]
async fn a_second_failover_leaves_the_first_primary_fenced() {
    let mut cluster = PostgresCluster::setup().replicas(2).synchronous(true).start().await.unwrap();
    cluster.primary().unwrap().execute("CREATE TABLE word (text text)").await.unwrap();
    // Of two replicas that have received the same, the first is promoted; then only the other is left.
    for promoted in ["replica-1", "replica-2"] {
        cluster.wait_applied().await.unwrap();
        cluster.primary_mut().unwrap().kill().await.unwrap();
        let failover = cluster.failover().await.unwrap();
        assert_eq!((failover.promoted.as_str(), failover.absent), (promoted, Vec::new()));
        // Commits do not wait for a replica where none is left.
        cluster.primary().unwrap().execute("INSERT INTO word VALUES ('new')").await.unwrap();
    }

    for name in ["primary", "replica-1"] {
        assert!(cluster.server(name).unwrap().is_fenced(), "{name}");
    }
    cluster.start().await.unwrap();
    cluster.wait_applied().await.unwrap();
    for name in ["primary", "replica-1"] {
        assert_eq!(cluster.server(name).unwrap().ask::<i64>(COUNT).await.unwrap(), 2, "{name}");
    }
    let names: String = cluster.primary().unwrap().ask("SHOW synchronous_standby_names").await.unwrap();
    assert_eq!(names, r#"ANY 1 ("primary", "replica-1")"#);
}

#[tokio::test]
async fn after_a_failover_no_commit_waits_for_a_replica_that_is_down() {
    let mut cluster = PostgresCluster::setup().replicas(2).synchronous(true).start().await.unwrap();
    cluster.server_mut("replica-2").unwrap().stop().await.unwrap();
    let failover = cluster.failover().await.unwrap();
    assert_eq!((failover.promoted.as_str(), failover.absent), ("replica-1", vec!["replica-2".to_owned()]));
    let commit = cluster.primary().unwrap().execute("CREATE TABLE word (text text)");
    tokio::time::timeout(STEP_TIMEOUT, commit).await.expect("it hangs").unwrap();
}

#[tokio::test]
async fn without_a_replica_there_is_no_failover_and_nothing_is_stopped() {
    let mut cluster = PostgresCluster::setup().start().await.unwrap();
    assert!(matches!(cluster.failover().await, Err(Error::State(_))));
    assert_eq!(cluster.primary().unwrap().ask::<i32>("SELECT 1").await.unwrap(), 1);
}

#[tokio::test]
async fn a_panic_ends_the_servers() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = PostgresCluster::setup().home(Home::at(folder.path()).unwrap()).start().await.unwrap();
    let identities = identities(&cluster);
    let panicked = tokio::spawn(async move {
        let _cluster = cluster;
        panic!("on purpose");
    });
    assert!(panicked.await.is_err());
    assert_eq!(alive(&identities), 0);
}

#[tokio::test]
async fn a_server_that_does_not_start_shows_its_log() {
    let setup = PostgresCluster::setup().set("shared_buffers", "many");
    let error = setup.start().await.unwrap_err().to_string();
    assert!(error.contains("shared_buffers"), "{error}");
}

#[tokio::test]
async fn redis_comes_up_hangs_and_comes_back() {
    let mut server = RedisServer::temporary().await.unwrap();
    let ping = ::redis::cmd("PING");
    assert_eq!(server.ask::<String>(&ping).await.unwrap(), "PONG");
    server.signal(Signal::STOP);
    assert!(server.ask::<String>(&ping).await.is_err(), "a stopped server answers");
    server.signal(Signal::CONT);
    assert_eq!(server.ask::<String>(&ping).await.unwrap(), "PONG");
    let identity = server.process().unwrap().identity();
    server.kill().await.unwrap();
    assert!(!identity.is_alive());
    server.start().await.unwrap();
    assert_eq!(server.ask::<String>(&ping).await.unwrap(), "PONG");
}
