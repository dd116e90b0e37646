//! EVENT over the wire: the order of events, duplicates, refusals.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::raw::{CLOSE, TEXT, frame};
use kit::{Author, Client, Front, Goodbye, Held, Relay, patiently, until};
use relay::policy::Rules;
use relay::types::{Change, Event, EventId, now};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Text messages as they came, until `count` of one type.
async fn ids(client: &mut Client, message_type: &str, count: usize) -> Vec<String> {
    let at = if message_type == "OK" { 1 } else { 2 };
    let mut ids = Vec::new();
    while ids.len() < count {
        let message = client.next_where(|message| message[0] == message_type).await;
        assert!(at == 2 || message[2] == true, "{message}");
        let id = if at == 1 { &message[1] } else { &message[2]["id"] };
        ids.push(id.as_str().unwrap().to_owned());
    }
    ids
}

/// Stored and ephemeral events in turn and in runs, by one connection that does not wait for answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connections_events_keep_their_order_from_frame_to_log() {
    let relay = Relay::with(|setup| setup.ingest.verify_threads = 4).await;
    let (author, mut publisher, mut subscriber) = (Author::new(), relay.connect().await, relay.connect().await);
    subscriber.subscribe("s", json!({"limit": 0})).await;
    let begun = relay.log.head();
    let kind = |n: usize| if n.is_multiple_of(3) || (100..200).contains(&n) { 20_001 } else { 1 };
    let events: Vec<_> = (0..400).map(|n| author.event(kind(n), &[], &n.to_string())).collect();
    let sent: Vec<_> = events.iter().map(|event| event.id().to_hex()).collect();
    let frames: String = events.iter().map(|event| format!("[\"EVENT\",{}]\n", event.text())).collect();
    let publish = async {
        for frame in frames.lines() {
            publisher.send_text(frame).await;
        }
        ids(&mut publisher, "OK", 400).await
    };
    let (answered, delivered) = tokio::join!(publish, ids(&mut subscriber, "EVENT", 400));
    assert_eq!(answered, sent, "the order of the OKs");
    assert_eq!(delivered, sent, "the order of the deliveries");

    let entries = relay.log.tail(begun).unwrap().entries;
    let inserted = entries.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
        Change::Inserted(insertion) => Some(insertion.event.id()),
        Change::Removed(_) => None,
    });
    let stored: Vec<EventId> = events.iter().filter(|event| event.kind().0 == 1).map(Event::id).collect();
    assert_eq!(inserted.collect::<Vec<_>>(), stored, "the order of the log");
}

#[tokio::test]
async fn an_ephemeral_event_that_comes_thrice_is_delivered_once() {
    let relay = Relay::start().await;
    let (author, mut ann, mut bob) = (Author::new(), relay.connect().await, relay.connect().await);
    bob.subscribe("s", json!({"kinds": [20_001]})).await;
    let event = author.event(20_001, &[], "now");
    assert_eq!(ann.publish(&event).await, (true, String::new()));
    for _ in 0..2 {
        let (taken, words) = ann.publish(&event).await;
        assert!(taken && words.starts_with("duplicate: "), "{words}");
    }
    let last = author.event(20_001, &[], "last");
    assert!(ann.publish(&last).await.0);
    assert_eq!(ids(&mut bob, "EVENT", 2).await, [event.id().to_hex(), last.id().to_hex()]);

    let (taken, words) = ann.publish(&author.event_at(now() - 400, 20_001, &[], "")).await;
    assert!(!taken && words.starts_with("invalid: ") && words.contains("300 seconds"), "{words}");
    relay.rules.store(Arc::new(Rules { max_ephemeral_age_seconds: None, ..Rules::default() }));
    assert!(ann.publish(&author.event_at(now() - 400, 20_001, &[], "")).await.0);
}

/// A known event whose sender or date the rules refuse gets the refusal of the rules.
#[tokio::test]
async fn a_duplicate_is_told_only_to_whom_the_rules_let_in() {
    let relay = Relay::start().await;
    let (author, other) = (Author::new(), Author::new());
    let (mut ann, mut stranger, mut bob) = (relay.connect().await, relay.connect().await, relay.connect().await);
    assert!(ann.authenticate(&author).await.0 && bob.authenticate(&other).await.0);
    let answer = async |client: &mut Client, event: &Event, prefix: &str| {
        let (taken, words) = client.publish(event).await;
        assert!(taken == (prefix == "duplicate: ") && words.starts_with(prefix), "{prefix} {words}");
    };

    let protected = author.event(1, &[&["-"]], "mine");
    assert!(ann.publish(&protected).await.0);
    answer(&mut ann, &protected, "duplicate: ").await;
    answer(&mut stranger, &protected, "auth-required: ").await;
    answer(&mut bob, &protected, "restricted: ").await;

    let at = now() + 2;
    let expiring = author.event(1, &[&["expiration", &at.to_string()]], "soon gone");
    assert!(ann.publish(&expiring).await.0);
    patiently("the second of its expiry", async {
        while now() < at {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    answer(&mut ann, &expiring, "invalid: ").await;

    let note = author.note("known");
    assert!(stranger.publish(&note).await.0);
    answer(&mut stranger, &note, "duplicate: ").await;
    relay.rules.store(Arc::new(Rules { auth_to_write: true, ..Rules::default() }));
    answer(&mut stranger, &note, "auth-required: ").await;
    answer(&mut bob, &note, "duplicate: ").await;
    relay.rules.store(Arc::new(Rules { denied_authors: [author.pubkey()].into(), ..Rules::default() }));
    answer(&mut ann, &note, "blocked: ").await;
    relay.rules.store(Arc::new(Rules { denied_kinds: [relay::types::Kind(1)].into(), ..Rules::default() }));
    answer(&mut ann, &note, "blocked: ").await;
}

/// The id is the hash of everything but the signature, and what is stored has a good one: a copy with another signature
/// is a duplicate, and is not kept.
#[tokio::test]
async fn a_duplicate_with_a_wrong_signature_changes_nothing() {
    let relay = Relay::start().await;
    let (author, mut client) = (Author::new(), relay.connect().await);
    let (note, other) = (author.note("one"), author.note("other"));
    let signature = |event: &Event| event.text()[event.text().len() - 130..].to_owned();
    let forged = Event::parse(&note.text().replace(&signature(&note), &signature(&other))).unwrap();
    let (taken, words) = client.publish(&forged).await;
    assert!(!taken && words.starts_with("invalid: "), "not known yet: {words}");
    assert!(client.publish(&note).await.0);
    let (taken, words) = client.publish(&forged).await;
    assert!(taken && words.starts_with("duplicate: "), "{words}");
    let stored = client.subscribe("s", json!({})).await;
    assert_eq!(stored, [serde_json::from_str::<serde_json::Value>(note.text()).unwrap()]);
}

#[tokio::test]
async fn an_expiration_that_is_no_time_is_refused() {
    let relay = Relay::start().await;
    let (author, mut client) = (Author::new(), relay.connect().await);
    for value in ["-1", "1.5", " 5 ", "abc", "9223372036854775808"] {
        let (taken, words) = client.publish(&author.event(1, &[&["expiration", value]], "")).await;
        assert!(!taken && words.starts_with("invalid: ") && words.contains("expiration"), "{value}: {words}");
    }
    assert!(client.publish(&author.event(1, &[&["expiration", ""]], "without")).await.0);
    let (past, later) = (now() - 1, now() + 1_000);
    let both = author.event(1, &[&["expiration", &later.to_string()], &["expiration", &past.to_string()]], "");
    let (taken, words) = client.publish(&both).await;
    assert!(!taken && words.contains("expired"), "the earliest counts: {words}");
    assert_eq!(client.subscribe("s", json!({})).await.len(), 1);
}

/// Text frames of a masking client with a key of zeros, then what follows them.
fn frames(messages: impl IntoIterator<Item = String>, then: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = messages.into_iter().flat_map(|text| frame(TEXT, text.as_bytes())).collect();
    bytes.extend_from_slice(then);
    bytes
}

async fn the_oks_come_first(relay: &Relay, address: SocketAddr) {
    let (author, mut client) = (Author::new(), Client::connect(address).await);
    let events: Vec<_> = (0..50).map(|n| author.note(&n.to_string())).collect();
    let messages = events.iter().map(|event| format!("[\"EVENT\",{}]", event.text()));
    client.stream().write_all(&frames(messages, &frame(CLOSE, &[]))).await.unwrap();
    for event in &events {
        assert!(client.ok(event.id()).await.0);
    }
    assert_eq!(client.goodbye().await, Goodbye::Closed(1005, String::new()));
    relay.connect().await.assert_served().await;
}

#[tokio::test]
async fn the_oks_come_before_the_answer_to_a_close_frame() {
    let relay = Relay::start().await;
    the_oks_come_first(&relay, relay.address).await;
    let front = Front::start(relay.address).await;
    the_oks_come_first(&relay, front.address).await;
}

/// The store answers only after the client has closed its sending side, or never.
async fn asks_and_closes_its_sending_side(through_haproxy: bool, store_answers: bool) {
    let store = Arc::new(Held::new());
    let relay = Relay::with(|setup| setup.store = store.clone()).await;
    let front = Front::start(relay.address).await;
    let address = if through_haproxy { front.address } else { relay.address };
    let (author, mut client) = (Author::new(), Client::connect(address).await);
    assert!(client.publish(&author.note("stored")).await.0);
    let before = store.reads();
    client.send(json!(["REQ", "s", {}])).await;
    until("the query to begin", || store.reads() > before).await;
    client.stream().shutdown().await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), client.next()).await;
    assert!(early.is_err(), "the connection waits for the query and is not reset: {early:?}");
    if store_answers {
        store.release();
        assert_eq!(client.stored("s").await.len(), 1);
    }
    assert_eq!(client.goodbye().await, Goodbye::Gone, "after a second at the latest");
}

#[tokio::test]
async fn a_half_closed_client_gets_what_it_asked_for() {
    asks_and_closes_its_sending_side(false, true).await;
    asks_and_closes_its_sending_side(true, true).await;
}

#[tokio::test]
async fn a_half_closed_client_is_not_waited_for_longer_than_a_second() {
    asks_and_closes_its_sending_side(false, false).await;
}
