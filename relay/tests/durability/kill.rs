//! SIGKILL in the middle of publishing, again and again on one database.

use crate::process::client::{Author, Client, Incoming, Signed, next};
use crate::process::{Relay, Setup};
use futures_util::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{ConnectOptions, Connection};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

const SEED: u64 = 1;
const RUNS: usize = 20;
const PUBLISHES: usize = 10_000;
const CONNECTIONS: usize = 4;
/// Messages that are written to a socket at once.
const BURST: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_got_an_ok_is_lost_when_the_relay_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(SEED);
    let mut author = Author::new();
    let mut ready: Vec<Signed> = Vec::new();
    let (mut sent, mut acknowledged) = (Vec::new(), HashSet::new());
    for run in 1..=RUNS {
        // Events that the last run has not sent are still new.
        ready.extend(author.notes(PUBLISHES - ready.len(), 100));
        let relay = Setup::new(folder.path()).start();
        let kill_after = random.random_range(1..PUBLISHES * 4 / 5);
        // Also up to about a commit later than an OK, not only right after it.
        let and_then = Duration::from_micros(random.random_range(0..5_000));
        let outcome = publish_until_killed(relay, std::mem::take(&mut ready), kill_after, and_then).await;

        let relay = Setup::new(folder.path()).start();
        let stored = check(&relay, &outcome.sent, &outcome.acknowledged).await;
        relay.stop();
        let (ok, all) = (outcome.acknowledged.len(), outcome.sent.len());
        println!("run {run}: {all} sent, {ok} OK, {stored} stored");
        assert!(ok >= kill_after, "the kill came before its time");
        ready = outcome.unsent;
        sent.extend(outcome.sent);
        acknowledged.extend(outcome.acknowledged);
    }
    // The later kills have not harmed what the earlier runs stored.
    let relay = Setup::new(folder.path()).start();
    let stored = check(&relay, &sent, &acknowledged).await;
    relay.stop();
    check_integrity(&folder.path().join("relay.db")).await;
    assert!(acknowledged.len() < sent.len(), "no kill hit an event under way: this proves nothing");
    println!("{RUNS} kills, {} sent, {} OK, {stored} stored, none lost", sent.len(), acknowledged.len());
}

struct Outcome {
    sent: Vec<Signed>,
    acknowledged: HashSet<String>,
    unsent: Vec<Signed>,
}

/// Publishes over a few connections at once, and kills the relay a moment after OK number `kill_after`.
async fn publish_until_killed(relay: Relay, mut events: Vec<Signed>, kill_after: usize, and_then: Duration) -> Outcome {
    let (oks, mut came) = mpsc::channel(PUBLISHES);
    let (mut writers, mut readers) = (JoinSet::new(), JoinSet::new());
    for share in 0..CONNECTIONS {
        let left = CONNECTIONS - share;
        let mut mine = events.split_off(events.len() - events.len() / left);
        let (mut sink, mut stream) = Client::connect(&relay).await.socket.split();
        writers.spawn(async move {
            let mut sent = Vec::new();
            while !mine.is_empty() {
                let burst = mine.split_off(mine.len().saturating_sub(BURST));
                let mut written = true;
                for event in &burst {
                    written &= sink.feed(Message::text(event.message.clone())).await.is_ok();
                }
                written &= sink.flush().await.is_ok();
                // Any part of an interrupted burst may have arrived.
                sent.extend(burst);
                if !written {
                    break;
                }
            }
            (sent, mine)
        });
        let oks = oks.clone();
        readers.spawn(async move {
            while let Incoming::Message(message) = next(&mut stream).await {
                if message[0] == "OK" {
                    assert_eq!(message[2], true, "{message}");
                    oks.try_send(message[1].as_str().unwrap().to_owned()).unwrap();
                }
            }
        });
    }

    drop(oks);
    let mut acknowledged = HashSet::new();
    while acknowledged.len() < kill_after {
        acknowledged.insert(came.recv().await.expect("the connections ended before the kill"));
    }
    tokio::time::sleep(and_then).await;
    tokio::task::spawn_blocking(|| relay.kill()).await.unwrap();
    while let Some(id) = came.recv().await {
        acknowledged.insert(id);
    }

    readers.join_all().await;
    let (sent, unsent): (Vec<_>, Vec<_>) = writers.join_all().await.into_iter().unzip();
    Outcome { sent: sent.concat(), acknowledged, unsent: unsent.concat() }
}

/// Every event with an OK is there, and every event there is exactly what was sent. Returns their number.
async fn check(relay: &Relay, sent: &[Signed], acknowledged: &HashSet<String>) -> usize {
    let stored = Arc::new(Client::connect(relay).await.stored_of(sent).await);
    let lost: Vec<_> = acknowledged.iter().filter(|id| !stored.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} events got an OK and are lost, {} among them", lost.len(), lost[0]);
    stored.len()
}

async fn check_integrity(database: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database).read_only(true);
    let mut connection = options.connect().await.unwrap();
    let found: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(found, "ok");
    connection.close().await.unwrap();
}
