//! Shortages: time, connections, disk. And two instances that write at once.

use crate::kit::*;
use crate::store_kit::{self, NOW};
use deploy::postgres::PostgresCluster;
use relay::store::postgres::{Connections, Options};
use relay::store::{Outcome, SharedLog, Store, StoreError};
use relay::types::{Position, Verified};
use sqlx::{Connection, Executor};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_and_an_exhausted_pool_end_in_clear_errors() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let urls = cluster.database_urls("postgres");
    let store = open(Options {
        primary_connections: Connections { min: 1, max: 4 },
        primary_statement_timeout: Duration::from_secs(3),
        acquire_timeout: Duration::from_millis(1_500),
        ..options(&urls)
    })
    .await;
    // Control: this one has more time.
    let patient = open(Options { primary_statement_timeout: Duration::from_secs(60), ..options(&urls) }).await;
    append(&store, &note(0)).await.unwrap();

    let mut blocker = sqlx::PgConnection::connect(&urls[0]).await.unwrap();
    blocker.execute("SET idle_in_transaction_session_timeout = 0").await.unwrap();
    blocker.execute("BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let start = Instant::now();
    let slow = read(&store, Position::default()).await;
    assert!(matches!(slow, Err(StoreError::Timeout)), "{slow:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let patience = tokio::time::timeout(Duration::from_secs(5), read(&patient, Position::default())).await;
    assert!(patience.is_err(), "control: nothing but the limit ends it");

    // Two of four connections are for reading; they are in use, and the next read gets that answer.
    let reads: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { read(&store, Position::default()).await })
        })
        .collect();
    let start = Instant::now();
    let refused = futures_util::future::join_all((0..8).map(|_| read(&store, Position::default()))).await;
    let overloaded = refused.iter().filter(|read| matches!(read, Err(StoreError::Overloaded))).count();
    assert!(overloaded >= 6, "{refused:?}");
    assert!(start.elapsed() < Duration::from_secs(6), "never a hang");
    // Control: reads never take the connections for writing and following. A write that has to open one waits for its
    // warming, which gives up soon; with a limit of the client's alone it would wait for the lock.
    store.shared_head().await.unwrap();
    let late = open(Options { primary_statement_timeout: Duration::from_secs(60), ..options(&urls) }).await;
    let start = Instant::now();
    late.shared_head().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    late.close().await;
    for read in reads {
        assert!(read.await.unwrap().is_err());
    }
    blocker.execute("ROLLBACK").await.unwrap();
    read(&store, Position::default()).await.unwrap();
    append(&store, &note(1)).await.unwrap();
    store.close().await;
    patient.close().await;
    assert!(matches!(read(&store, Position::default()).await, Err(StoreError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let Some(_mounted) = Tmpfs::mount(&disk, 16 << 20) else {
        println!("not run: only root may mount a small disk");
        return;
    };

    let ballast = disk.join("ballast");
    let space = disk.join("space");
    std::fs::create_dir(&space).unwrap();
    run("chown", &["postgres", space.to_str().unwrap()]);
    run("chmod", &["a+rx", folder.path().to_str().unwrap(), disk.to_str().unwrap()]);
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let store = open(options(&cluster.database_urls("postgres"))).await;
    let primary = cluster.primary().unwrap();
    primary.execute(&format!("CREATE TABLESPACE small LOCATION '{}'", space.display())).await.unwrap();
    primary.execute("ALTER TABLE event SET TABLESPACE small").await.unwrap();
    append(&store, &note(0)).await.unwrap();
    while std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&ballast)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &[1; 65_536]))
        .is_ok()
    {}

    let mut taken = vec![note(0)];
    let full = loop {
        assert!(taken.len() < 20_000, "it never got full");
        let batch: Vec<_> = (taken.len()..taken.len() + 200).map(note).collect();
        match store.append(batch.iter().cloned().map(Verified::vouch).collect(), NOW).await {
            Ok(_) => taken.extend(batch),
            Err(error) => break error,
        }
    };

    assert!(matches!(full, StoreError::Full), "{full:?}");
    let head = store.shared_head().await.unwrap().head;
    read(&store, head.position).await.unwrap();
    std::fs::remove_file(&ballast).unwrap();
    let next = note(30_000);
    assert_eq!(append(&store, &next).await.unwrap(), head.position.next(), "what failed has left nothing behind");
    store.close().await;
}

/// A small disk, unmounted when dropped.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(at: &std::path::Path, bytes: usize) -> Option<Self> {
        let size = format!("size={bytes}");
        let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a server that is still stopping may hold files on it.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    assert!(std::process::Command::new(program).args(arguments).status().unwrap().success(), "{program}");
}

/// Versions of one replaceable event, written by two instances at once: one winner, the right one, the same everywhere.
async fn two_instances(versions: usize) {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let urls = cluster.database_urls("postgres");
    let (one, two) = (open(options(&urls)).await, open(options(&urls)).await);
    let version = |n: usize| store_kit::event(1, 0, NOW - 100_000 + (n / 2) as i64, &[], &format!("version {n}"));
    let write = |store: relay::store::postgres::PostgresStore, odd: usize| async move {
        let (mut stored, mut superseded) = (0, 0);
        for n in 0..versions {
            match store_kit::put(&store, &version(2 * n + odd)).await {
                Outcome::Stored => stored += 1,
                Outcome::Superseded => superseded += 1,
                other => panic!("{other:?}"),
            }
        }
        (stored, superseded)
    };

    let (first, second) = tokio::join!(tokio::spawn(write(one.clone(), 0)), tokio::spawn(write(two.clone(), 1)));
    let (first, second) = (first.unwrap(), second.unwrap());
    println!("(stored, superseded): {first:?} and {second:?}");
    assert_eq!(first.0 + first.1 + second.0 + second.1, 2 * versions);
    let last = [version(2 * versions - 2), version(2 * versions - 1)];

    // Of two with the same time the lower id wins (NIP-01).
    let winner = last.iter().map(|event| event.id()).min().unwrap();
    for store in [&one, &two] {
        assert_eq!(store_kit::stored(store, &store_kit::all()).await, [winner]);
    }
    let head = one.shared_head().await.unwrap().head;
    assert_eq!(head.position.0, (first.0 + second.0) as u64, "a position for each version that was stored");
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_agree_on_the_version_that_stays() {
    two_instances(500).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: for make soak"]
async fn two_instances_agree_ten_thousand_times() {
    two_instances(10_000).await;
}
