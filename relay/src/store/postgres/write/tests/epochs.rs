//! A promoted standby (docs/decisions/0008).

use super::*;

/// A failover as the writer sees it: the head names another timeline than the server's.
async fn another_timeline(conn: &mut PgConnection) {
    run(conn, "UPDATE head SET tli = tli + 7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_timeline_begins_another_epoch() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let first = put(&mut conn, &hasher, &[event(1, 1, 1, &[], "")]).await.unwrap().head;
    let same = settle(&mut conn, first.epoch).await.unwrap();
    assert_eq!(same, first, "the same server is the same epoch");

    another_timeline(&mut conn).await;
    let second = put(&mut conn, &hasher, &[event(1, 1, 2, &[], "")]).await.unwrap().head;
    assert_ne!(second.epoch, first.epoch);
    assert_eq!(second.position, first.position.next());
    let shared = log::shared_head(&mut conn).await.unwrap();
    assert_eq!((shared.head, shared.base, shared.previous), (second, first.position, first.epoch));

    // Without a write, and for a caller who knows an epoch that the server does not.
    another_timeline(&mut conn).await;
    let ahead = Epoch(second.epoch.0 + (9 << 32));
    let third = settle(&mut conn, ahead).await.unwrap();
    assert!(third.epoch.0 >> 32 > ahead.0 >> 32);
    assert_eq!(third.position, second.position);
    let shared = log::shared_head(&mut conn).await.unwrap();
    assert_eq!((shared.base, shared.previous), (second.position, second.epoch));
    assert_eq!(settle(&mut conn, third.epoch).await.unwrap(), third);
    // Two standbys may choose the same timeline: their epochs differ all the same.
    let mut transaction = conn.begin().await.unwrap();
    another_timeline(&mut transaction).await;
    let here = settle(&mut transaction, third.epoch).await.unwrap();
    transaction.rollback().await.unwrap();
    another_timeline(&mut conn).await;
    let there = settle(&mut conn, third.epoch).await.unwrap();
    assert_eq!(here.epoch.0 >> 32, there.epoch.0 >> 32);
    assert_ne!(here.epoch, there.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_has_another_timeline() {
    let mut cluster = PostgresCluster::setup().replicas(1).synchronous(true).start().await.unwrap();
    let mut conn = connect(&cluster.primary().unwrap().url()).await;
    let hasher = schema::migrate(&mut conn).await.unwrap();
    let before = put(&mut conn, &hasher, &[event(1, 1, 1, &[], "")]).await.unwrap().head;
    cluster.primary_mut().unwrap().kill().await.unwrap();
    cluster.failover().await.unwrap();
    let mut conn = connect(&cluster.primary().unwrap().url()).await;
    // Synchronous: what was acknowledged is there.
    let again = put(&mut conn, &hasher, &[event(1, 1, 1, &[], "")]).await.unwrap();
    assert_eq!((again.outcomes, again.head), (vec![Outcome::Duplicate], before));
    let after = settle(&mut conn, before.epoch).await.unwrap();
    assert_ne!(after.epoch, before.epoch);
    let shared = log::shared_head(&mut conn).await.unwrap();
    assert_eq!((shared.base, shared.previous), (before.position, before.epoch));
}
