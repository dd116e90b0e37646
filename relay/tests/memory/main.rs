//! Clients that do not read, against a real relay: its resident memory stays within the account (memory.clients_bytes)
//! and what the store needs, the account's bytes are freed again, and honest clients are not affected.

#![allow(missing_docs, clippy::unwrap_used)]

mod hostile;
#[path = "../process/mod.rs"]
mod process;
mod soak;

use hostile::{Hostile, Resident, allocated_bytes, ask_like_an_honest_client, client_bytes, fill};
use process::client::{Author, Client, Incoming};
use process::{Relay, Setup};
use serde_json::json;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// The memory of a relay beside the account: pages that the store reads at the same time, and the allocator's slack.
const BESIDE_BYTES: u64 = 64 * MIB;

/// The same while the store reads large pages on all its connections. Without the account the case takes 1,280 MiB.
const STORE_BYTES: u64 = 192 * MIB;

/// The stacks of a relay's threads, which are anonymous memory too.
const STACKS_BYTES: u64 = 4 * MIB;

/// How long the relay may take to free memory.
const GOES_BACK: Duration = Duration::from_secs(60);

fn relay_with(folder: &std::path::Path, clients_bytes: u64) -> Relay {
    Setup::new(folder)
        .set("memory-clients-bytes", &clients_bytes.to_string())
        // A small ring, so that stored events are on the disk alone.
        .set("queues-ring-bytes", &MIB.to_string())
        .set("cache-l1-bytes", &MIB.to_string())
        // Out of the way: these tests are about the account.
        .set("limits-max-subscriptions-bytes", &(1 << 30).to_string())
        // On a busy machine a read may wait for long.
        .set("database-pool-wait-seconds", "60")
        .set("database-statement-timeout-seconds", "60")
        // Such reads are logged; and the control promises more than there is.
        .expect_log("slow query")
        .expect_log("together leave too little")
        .start()
}

/// Waits until the resident memory is at most one and a half times what is live; returns both.
async fn wait_until_given_back(relay: &Relay) -> (u64, u64) {
    let deadline = Instant::now() + GOES_BACK;
    loop {
        let (anonymous, live) = (Resident::of(relay).anonymous, allocated_bytes(relay));
        if anonymous <= live + live / 2 + STACKS_BYTES {
            return (anonymous, live);
        }
        assert!(
            Instant::now() < deadline,
            "{} MiB are resident after {GOES_BACK:?}, and {} MiB live",
            anonymous / MIB,
            live / MIB
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_cost_no_more_than_the_account() {
    let folder = tempfile::tempdir().unwrap();
    let account = 64 * MIB;
    let relay = relay_with(folder.path(), account);
    let authors = fill(&relay, 1_000, 500).await;
    let quiet = Resident::of(&relay);

    let mut hostile = Vec::new();
    for number in 0..8 {
        hostile.push(Hostile::ask(&relay, number, &authors.large, 1_000).await);
    }
    // While hostile clients hold as much as they can: no honest one is closed, and every query is answered.
    for _ in 0..3 {
        let asked = (0..4).map(|_| ask_like_an_honest_client(&relay, &authors.small, 500));
        futures_util::future::join_all(asked).await;
    }
    let bytes = client_bytes(&relay).await;
    assert!(bytes["rows"] + bytes["outbox"] > 0 && bytes.values().sum::<u64>() <= account, "{bytes:?}");
    let loaded = Resident::of(&relay);
    let grown = loaded.most.saturating_sub(quiet.now);
    println!("{} MiB quiet, {} MiB more at most, account: {bytes:?}", quiet.now / MIB, grown / MIB);
    assert!(grown <= account + STORE_BYTES, "{} MiB", grown / MIB);

    drop(hostile);
    let deadline = Instant::now() + GOES_BACK;
    loop {
        let held = client_bytes(&relay).await;
        if held.values().sum::<u64>() == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{held:?} are held for nobody");
    }
    let (resident, live) = wait_until_given_back(&relay).await;
    println!("{} MiB resident afterwards, {} MiB live", resident / MIB, live / MIB);
    relay.stop();
}

/// How much three connections with 300 subscriptions of 900 authors each add, and how many were refused.
async fn subscribe(clients_bytes: u64) -> (u64, usize) {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay_with(folder.path(), clients_bytes);
    let quiet = Resident::of(&relay);
    let (mut clients, mut refused) = (Vec::new(), 0);
    for connection in 0..3_u32 {
        let mut client = Client::connect(&relay).await;
        for subscription in 0..300_u32 {
            let author = |n: u32| format!("{:08x}{subscription:028x}{n:028x}", connection + 1);
            let authors: Vec<_> = (0..900).map(author).collect();
            client.send(json!(["REQ", subscription.to_string(), {"authors": authors, "limit": 0}]).to_string()).await;
            let answer = client.answer().await;
            if answer[0] == "CLOSED" {
                let words = answer[2].as_str().unwrap();
                assert!(words.starts_with("rate-limited: ") && words.contains("memory"), "{words}");
                refused += 1;
            } else {
                assert_eq!(answer[0], "EOSE");
            }
        }
        clients.push(client);
    }

    // Connections whose subscriptions were refused can go on.
    for client in &mut clients {
        client.send(json!(["CLOSE", "0"]).to_string()).await;
        client.send(json!(["REQ", "small", {"kinds": [1], "limit": 0}]).to_string()).await;
        assert_eq!(client.answer().await, json!(["EOSE", "small"]));
    }

    let grown = Resident::of(&relay).most.saturating_sub(quiet.now);
    drop(clients);
    relay.stop();
    (grown, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_subscriptions_are_part_of_the_account() {
    let (grown, refused) = subscribe(16 * MIB).await;
    assert!(refused > 600, "{refused} of 900 refused");
    assert!(grown < 16 * MIB + BESIDE_BYTES, "{} MiB", grown / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_an_account_without_end_is_exceeded() {
    let (grown, refused) = subscribe(1 << 40).await;
    assert_eq!(refused, 0);
    assert!(grown > 16 * MIB + BESIDE_BYTES, "{} MiB", grown / MIB);
}

/// Many clients each send half a message of 250 KB: the relay reads as much as the account allows, and serves the rest
/// once other clients have gone.
#[tokio::test(flavor = "multi_thread")]
async fn half_messages_wait_where_there_is_no_memory_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path())
        .set("memory-clients-bytes", &(16 * MIB).to_string())
        .set("limits-max-message-bytes", "524288")
        .expect_log("slow query")
        .start();
    let quiet = Resident::of(&relay);

    let mut halves = Vec::new();
    for _ in 0..150 {
        halves.push(Hostile::half_a_message(&relay, 500_000).await);
    }
    let mut honest = Client::connect(&relay).await;
    let mut author = Author::new();
    assert!(honest.publish(&author.note(1_000)).await.0, "a small message needs no memory of the account");
    let bytes = client_bytes(&relay).await;
    assert!(bytes["messages"] > 8 * MIB && bytes["messages"] <= 16 * MIB, "{bytes:?}");
    let grown = Resident::of(&relay).most.saturating_sub(quiet.now);
    assert!(grown <= 48 * MIB, "{} MiB for 16 MiB of account", grown / MIB);

    // A large one may have to wait.
    honest.send(author.note(100_000).message).await;
    drop(halves);
    match honest.next().await {
        Incoming::Message(answer) => assert!(answer[0] == "OK" && answer[2] == true, "{answer}"),
        end => panic!("{end:?}"),
    }
    relay.stop();
}
