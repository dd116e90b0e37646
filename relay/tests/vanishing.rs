//! Requests to vanish over the wire (NIP-62).

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::{Author, Relay, patiently};
use relay::policy::RelayUrl;
use relay::store::{MemoryStore, Store};
use relay::types::{Event, Filter, Position, Verified, now};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Waits until the store holds exactly these events.
async fn until_left(relay: &Relay, wanted: &[&Event]) {
    let mut wanted: Vec<_> = wanted.iter().map(|event| event.id()).collect();
    wanted.sort();
    patiently("what has vanished to be gone", async {
        loop {
            let all = Filter::default();
            let read = relay::store::Read {
                filter: &all,
                limit: 10_000,
                after: None,
                access: None,
                at_least: Position::default(),
                now: now(),
                max_text_bytes: usize::MAX,
            };

            let mut left: Vec<_> = relay.store.read(&read).await.unwrap().rows.iter().map(|row| row.key.id).collect();
            left.sort();
            if left == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn request(author: &Author, at: i64, relay: &str) -> Event {
    author.event_at(at, 62, &[&["relay", relay]], "")
}

#[tokio::test]
async fn a_person_vanishes_whatever_keeps_them_out() {
    let relay = Relay::start().await;
    let (leaving, staying) = (Author::new(), Author::new());
    let mut client = relay.connect().await;
    let at = now() - 100;
    // More than one batch.
    let notes: Vec<_> = (0..1_200).map(|n| leaving.event_at(at - n, 1, &[], "mine")).collect();
    for note in &notes {
        client.send_event(note).await;
    }
    for note in &notes {
        assert!(client.ok(note.id()).await.0);
    }
    let wrap = staying.event_at(at, 1059, &[&["p", &leaving.pubkey().to_hex()]], "to them");
    let other = staying.event_at(at, 1, &[&["p", &leaving.pubkey().to_hex()]], "about them");
    assert!(client.publish(&wrap).await.0 && client.publish(&other).await.0);
    client.subscribe("cached", json!({"authors": [leaving.pubkey().to_hex()], "limit": 10})).await;

    // The operator has denied the author, and demands authentication and proof of work: a request to vanish needs none
    // of that.
    let mut rules = (*relay.rules.load_full()).clone();
    rules.denied_authors = HashSet::from([leaving.pubkey()]);
    (rules.auth_to_write, rules.min_pow_bits, rules.max_age_seconds) = (true, 20, Some(1));
    relay.rules.store(Arc::new(rules));
    let vanish = request(&leaving, at, "ALL_RELAYS");
    assert_eq!(client.publish(&vanish).await, (true, String::new()));
    until_left(&relay, &[&vanish, &other]).await;
    relay.rules.store(Arc::default());

    let stored = client.subscribe("again", json!({"authors": [leaving.pubkey().to_hex()], "limit": 10})).await;
    assert_eq!(stored.iter().map(|event| &event["kind"]).collect::<Vec<_>>(), [62], "the cache knows it as well");
    for event in [&notes[0], &notes[1_100], &wrap] {
        let (accepted, words) = client.publish(event).await;
        assert!(!accepted && words.starts_with("blocked: "), "{words}");
    }
    assert!(client.publish(&leaving.event_at(at + 1, 1, &[], "a new life")).await.0);
}

#[tokio::test]
async fn only_a_request_to_this_relay_counts() {
    let url = "wss://relay.example.com";
    let relay = Relay::with(|setup| setup.rules.own_urls = vec![RelayUrl::parse(url).unwrap()]).await;
    let (author, mut client) = (Author::new(), relay.connect().await);
    let note = author.note("stays");
    assert!(client.publish(&note).await.0);
    for elsewhere in ["wss://other.example.com", "ws://127.0.0.1", "all_relays", ""] {
        let (accepted, words) = client.publish(&request(&author, now(), elsewhere)).await;
        assert!(!accepted && words.starts_with("invalid: "), "{elsewhere}: {words}");
    }
    let (accepted, words) = client.publish(&author.event(62, &[], "no relay")).await;
    assert!(!accepted && words.starts_with("invalid: "), "{words}");
    let (accepted, words) = client.publish(&request(&author, now() + 10_000, url)).await;
    assert!(!accepted && words.contains("future"), "{words}");
    assert_eq!(client.subscribe("s", json!({"authors": [author.pubkey().to_hex()]})).await.len(), 1);

    let vanish = request(&author, now(), "WSS://relay.EXAMPLE.com:443/");
    assert!(client.publish(&vanish).await.0);
    until_left(&relay, &[&vanish]).await;
}

/// A removal that a crash has interrupted is completed after the next start. Requests for other relays, which an older
/// program has stored, have no effect.
#[tokio::test]
async fn a_request_that_was_left_half_done_is_finished() {
    let (leaving, staying) = (Author::new(), Author::new());
    let vanish = request(&leaving, now(), "ALL_RELAYS");
    let elsewhere = request(&staying, now(), "wss://other.example.com");
    let kept = staying.event_at(now() - 5, 1, &[], "stays");
    let store = MemoryStore::new();
    let stored: Vec<_> = (0..700).map(|n| leaving.event_at(now() - 10 - n, 1, &[], "left over")).collect();
    let batch = |events: &[Event]| events.iter().map(|event| Verified::vouch(Arc::new(event.clone()))).collect();
    for events in [&stored[..], &[kept.clone(), vanish.clone(), elsewhere.clone()]] {
        store.append(batch(events), now()).await.unwrap();
    }
    let relay = Relay::with(|setup| setup.store = Arc::new(store)).await;
    until_left(&relay, &[&vanish, &elsewhere, &kept]).await;
}
