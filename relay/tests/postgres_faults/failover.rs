//! The primary dies and a replica is promoted.

use crate::kit::*;
use deploy::postgres::PostgresCluster;
use deploy::{STEP_TIMEOUT, until};
use relay::store::postgres::PostgresStore;
use relay::store::{SharedLog, Store, StoreError};
use relay::types::{EventId, Position};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Writes until it is stopped; keeps what was acknowledged, and counts the errors.
struct RecordingWriter {
    task: tokio::task::JoinHandle<(Vec<EventId>, usize)>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl RecordingWriter {
    fn start(store: PostgresStore) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (stop.clone(), Arc::clone(&acknowledged));
        let task = tokio::spawn(async move {
            let (mut ids, mut errors) = (Vec::new(), 0);
            for n in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let note = note(n);
                match append(&store, &note).await {
                    Ok(_) => {
                        ids.push(note.id());
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(StoreError::Unreachable(_) | StoreError::Unknown | StoreError::Overloaded) => errors += 1,
                    Err(other) => panic!("not a clear error: {other:?}"),
                }
            }
            (ids, errors)
        });
        Self { task, stop, acknowledged }
    }

    async fn wait_for(&self, more: usize) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + more;
        until("writes to be acknowledged", STEP_TIMEOUT, async || {
            let count = self.acknowledged.load(Ordering::Relaxed);
            if count >= wanted { Ok(()) } else { Err(format!("{count} of {wanted}")) }
        })
        .await
        .unwrap();
    }

    async fn stop(self) -> (Vec<EventId>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_come_back_after_a_promotion_and_nothing_acknowledged_is_lost() {
    let mut cluster = PostgresCluster::setup().replicas(2).synchronous(true).start().await.unwrap();
    let store = open(options(&cluster.database_urls("postgres"))).await;
    wait_whole(&store, 3).await;
    let before = store.shared_head().await.unwrap();
    let writer = RecordingWriter::start(store.clone());
    writer.wait_for(50).await;

    cluster.primary_mut().unwrap().kill().await.unwrap();
    let refused = Instant::now();
    assert!(store.shared_head().await.is_err(), "following fails at once, and goes on later");
    assert!(refused.elapsed() < Duration::from_secs(4));
    // Reads go on without a primary.
    read(&store, Position::default()).await.unwrap();

    cluster.failover().await.unwrap();
    let promoted = Instant::now();
    writer.wait_for(20).await;
    let back = promoted.elapsed();
    println!("writes were back {back:?} after the promotion");
    assert!(back < Duration::from_secs(30));
    let (acknowledged, errors) = writer.stop().await;
    println!("{} acknowledged, {errors} refused", acknowledged.len());
    assert_eq!(missing(&cluster, "postgres", &acknowledged).await, 0);
    let after = store.shared_head().await.unwrap();
    assert_ne!(after.head.epoch, before.head.epoch, "another timeline is another epoch");
    assert_eq!(after.previous, before.head.epoch);
    let page = read(&store, after.head.position).await.unwrap();
    assert_eq!(page.head.epoch, after.head.epoch);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_without_synchronous_standbys_a_failover_may_lose() {
    let mut cluster = PostgresCluster::setup().replicas(1).start().await.unwrap();
    let store = open(options(&cluster.database_urls("postgres"))).await;
    wait_whole(&store, 2).await;
    append(&store, &note(0)).await.unwrap();
    cluster.wait_applied().await.unwrap();

    // The replica is down while these are acknowledged.
    cluster.server_mut("replica-1").unwrap().kill().await.unwrap();
    let mut acknowledged = vec![note(0).id()];
    for n in 1..20 {
        append(&store, &note(n)).await.unwrap();
        acknowledged.push(note(n).id());
    }

    let before = store.shared_head().await.unwrap();
    cluster.primary_mut().unwrap().kill().await.unwrap();
    cluster.server_mut("replica-1").unwrap().start().await.unwrap();
    cluster.failover().await.unwrap();
    until("a write on the new primary", STEP_TIMEOUT, async || {
        append(&store, &note(100)).await.map(|_| ()).map_err(|error| error.to_string())
    })
    .await
    .unwrap();

    assert!(missing(&cluster, "postgres", &acknowledged).await > 0, "nothing was lost: the other test proves nothing");
    let after = store.shared_head().await.unwrap();
    assert_ne!(after.head.epoch, before.head.epoch, "what was lost is of an epoch that is over");
    assert!(after.base < before.head.position, "and the base says from where on");
    store.close().await;
}
