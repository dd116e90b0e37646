//! Replicas that lag, pause and die.

use crate::kit::*;
use deploy::postgres::PostgresCluster;
use relay::store::Store;
use relay::store::postgres::{Condition, Role};
use relay::types::Position;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn replica(cluster: &PostgresCluster, name: &str) -> u16 {
    cluster.server(name).unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_serve_in_turn_and_leave_when_they_lag_or_die() {
    let mut cluster = PostgresCluster::setup().replicas(2).start().await.unwrap();
    let urls = cluster.database_urls("postgres");
    let store =
        open(relay::store::postgres::Options { max_replica_lag: Duration::from_secs(1), ..options(&urls) }).await;
    // Control: no lag is too much for this one.
    let patient =
        open(relay::store::postgres::Options { max_replica_lag: Duration::from_secs(3_600), ..options(&urls) }).await;
    for n in 0..10 {
        append(&store, &note(n)).await.unwrap();
    }
    cluster.wait_applied().await.unwrap();
    wait_whole(&store, 3).await;
    wait_whole(&patient, 3).await;
    let (one, two) = (replica(&cluster, "replica-1"), replica(&cluster, "replica-2"));
    let primary = cluster.primary().unwrap().port();

    for _ in 0..20 {
        read(&store, Position::default()).await.unwrap();
    }
    assert_eq!((node(&store, one).reads, node(&store, two).reads), (10, 10), "they take turns");
    assert_eq!((node(&store, primary).role, node(&store, primary).reads), (Role::Primary, 0));

    // Two seconds behind.
    cluster.server_mut("replica-1").unwrap().apply_delay(Duration::from_secs(2)).await.unwrap();
    let writer = Writer::start(store.clone(), 100);
    wait_for(&store, one, "the late replica to be left out", |node| node.condition == Condition::Behind).await;
    let before = (node(&store, one).reads, node(&patient, one).reads);
    for _ in 0..20 {
        read(&store, Position::default()).await.unwrap();
        read(&patient, Position::default()).await.unwrap();
    }
    assert_eq!(node(&store, one).reads, before.0, "a replica that lags answers nothing");
    assert!(node(&patient, one).reads > before.1, "control: it would have answered");
    assert!(node(&store, one).lag_positions > 0 && node(&store, one).lag_seconds > 1.0);
    cluster.server_mut("replica-1").unwrap().apply_delay(Duration::ZERO).await.unwrap();
    wait_read(&store, one).await;
    wait_for(&store, one, "it to be trusted again", |node| node.condition == Condition::Healthy).await;
    writer.stop().await;

    // Replay pauses on both: the primary answers reads of the present position, and the replicas the rest.
    for name in ["replica-1", "replica-2"] {
        cluster.server(name).unwrap().pause_replay().await.unwrap();
    }
    let last = append(&store, &note(5_000)).await.unwrap();
    let fresh = read(&store, last).await.unwrap();
    assert!(fresh.head.position >= last);
    let stale = read(&store, Position::default()).await.unwrap();
    assert!(stale.head.position < last, "control: the replicas do not show it");
    for name in ["replica-1", "replica-2"] {
        cluster.server(name).unwrap().resume_replay().await.unwrap();
    }
    cluster.wait_applied().await.unwrap();

    // A replica dies under load, and no read fails.
    let reader = Reader::start(store.clone());
    wait_read(&store, one).await;
    cluster.server_mut("replica-1").unwrap().kill().await.unwrap();
    wait_for(&store, one, "its loss to be noticed", |node| node.condition == Condition::Down).await;
    let alone = open_nothing(&urls[1]).await;
    assert!(alone.is_err(), "control: it serves nobody");
    cluster.server_mut("replica-1").unwrap().start().await.unwrap();
    wait_read(&store, one).await;

    // All die: the primary serves.
    for name in ["replica-1", "replica-2"] {
        cluster.server_mut(name).unwrap().kill().await.unwrap();
    }
    wait_read(&store, primary).await;
    let answered = reader.stop().await;
    assert!(answered > 100, "{answered}");
    assert!(append(&store, &note(6_000)).await.is_ok());
    store.close().await;
    patient.close().await;
}

/// A connection to one server alone.
async fn open_nothing(url: &str) -> Result<(), sqlx::Error> {
    <sqlx::PgConnection as sqlx::Connection>::connect(url).await.map(|_| ())
}

/// Reads one after the other; any failure fails the test.
struct Reader(tokio::task::JoinHandle<usize>, Arc<AtomicBool>);

impl Reader {
    fn start(store: relay::store::postgres::PostgresStore) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut answered = 0;
            while !stopped.load(Ordering::Relaxed) {
                read(&store, Position::default()).await.unwrap();
                answered += 1;
            }
            answered
        });
        Self(task, stop)
    }

    async fn stop(self) -> usize {
        self.1.store(true, Ordering::Relaxed);
        self.0.await.unwrap()
    }
}

/// Writes one event after the other.
struct Writer(tokio::task::JoinHandle<()>, Arc<AtomicBool>);

impl Writer {
    fn start(store: relay::store::postgres::PostgresStore, first: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            for n in first.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                append(&store, &note(n)).await.unwrap();
                ticks.tick().await;
            }
        });
        Self(task, stop)
    }

    async fn stop(self) {
        self.1.store(true, Ordering::Relaxed);
        self.0.await.unwrap();
    }
}
