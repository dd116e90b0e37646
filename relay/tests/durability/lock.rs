//! Another process holds the database.

use crate::process::client::{Author, Client};
use crate::process::{STEP_TIMEOUT, Setup};
use sqlx::{ConnectOptions, Connection};
use std::time::{Duration, Instant};

/// The relay waits 5 s for a lock; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_refuses_in_time_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path()).expect_log("locked");
    let relay = setup.start();
    let (mut author, mut client) = (Author::new(), Client::connect(&relay).await);
    let before = author.note(10);
    assert!(client.publish(&before).await.0);

    // This test is the other process: a backup script, or a shell left open.
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("relay.db"));
    let mut other = file.connect().await.unwrap();
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let refused = author.note(10);
    let asked = Instant::now();
    let (ok, words) = client.publish(&refused).await;
    assert!(!ok && words.starts_with("error:"), "{words}");
    assert!(asked.elapsed() < BOUND, "the refusal took {:?}", asked.elapsed());
    let both = [before, refused];
    assert_eq!(client.stored_of(&both).await.len(), 1, "reads are served, and what was refused is not there");

    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let (ok, words) = client.publish(&both[1]).await;
    assert!(ok, "the lock is gone, but: {words}");
    assert_eq!(client.stored_of(&both).await.len(), 2);
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_on_the_same_file_says_so_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).start();
    let started = Instant::now();
    let mut second = Setup::new(folder.path()).spawn();
    let status = second.wait();
    assert!(!status.success(), "{status}");
    assert!(started.elapsed() < STEP_TIMEOUT / 2, "it took {:?}", started.elapsed());
    let log = second.log();
    assert!(log.contains("relay.db"), "the message does not name the file: {log}");
    assert!(log.contains(&relay.pid().to_string()), "the message does not name the process that has it: {log}");

    // The first relay still works, and a killed relay leaves no lock that keeps the next one from starting.
    assert!(Client::connect(&relay).await.publish(&Author::new().note(10)).await.0);
    relay.kill();
    Setup::new(folder.path()).start().stop();
}
