//! A client's session: publish, subscribe, count, authenticate.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::{Author, Client, Held, Relay, until};
use relay::connection::RateLimit;
use relay::policy::{RelayUrl, Rules};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;

#[tokio::test]
async fn a_subscription_gets_what_is_stored_and_then_what_comes() {
    let relay = Relay::start().await;
    let (author, mut ann, mut bob) = (Author::new(), relay.connect().await, relay.connect().await);
    let (first, second, third) = (author.note("first"), author.note("second"), author.event(2, &[], "other"));
    assert!(ann.publish(&first).await.0);
    let stored = bob.subscribe("s", json!({"kinds": [1]})).await;
    assert_eq!(stored.iter().map(|event| &event["content"]).collect::<Vec<_>>(), ["first"]);
    assert!(ann.publish(&third).await.0 && ann.publish(&second).await.0);
    assert_eq!(bob.event("s").await["id"], second.id().to_hex());

    // Replaced: the id now means something else.
    assert_eq!(bob.subscribe("s", json!({"kinds": [2]})).await.len(), 1);
    assert!(ann.publish(&author.note("nobody listens")).await.0);
    let other = author.event(2, &[], "another");
    assert!(ann.publish(&other).await.0);
    assert_eq!(bob.event("s").await["id"], other.id().to_hex());

    // Closed: nothing more comes.
    bob.send(json!(["CLOSE", "s"])).await;
    bob.assert_served().await;
    assert!(ann.publish(&author.event(2, &[], "unheard")).await.0);
    bob.assert_served().await;
    assert!(bob.unexpected().is_empty(), "{:?}", bob.unexpected());
}

#[tokio::test]
async fn counts_are_answered() {
    let relay = Relay::start().await;
    let (author, mut client) = (Author::new(), relay.connect().await);
    for text in ["a", "b", "c"] {
        assert!(client.publish(&author.note(text)).await.0);
    }
    client.send(json!(["COUNT", "c", {"kinds": [1]}, {"authors": [author.pubkey().to_hex()]}])).await;
    assert_eq!(client.next().await, json!(["COUNT", "c", {"count": 3}]));
}

#[tokio::test]
async fn subscriptions_are_limited_and_the_limit_can_change() {
    let relay = Relay::with(|setup| setup.settings.max_subscriptions = 2).await;
    let mut client = relay.connect().await;
    client.subscribe("a", json!({"limit": 0})).await;
    client.subscribe("b", json!({"limit": 0})).await;
    client.send(json!(["REQ", "c", {"limit": 0}])).await;
    assert!(client.closed("c").await.contains("at most 2"));
    client.subscribe("b", json!({"kinds": [1], "limit": 0})).await;
    relay.change(|settings| settings.max_subscriptions = 3);
    client.subscribe("c", json!({"limit": 0})).await;
}

/// A reload makes reading need authentication: a client without it gets a CLOSED with the reason, and no more events.
#[tokio::test]
async fn a_rule_that_closes_the_door_holds_for_open_subscriptions() {
    let relay = Relay::start().await;
    let (author, reader) = (Author::new(), Author::new());
    let (mut ann, mut known, mut stranger) = (relay.connect().await, relay.connect().await, relay.connect().await);
    assert!(known.authenticate(&reader).await.0);
    known.subscribe("a", json!({"kinds": [1]})).await;
    for id in ["a", "b"] {
        stranger.subscribe(id, json!({"kinds": [1]})).await;
    }
    let before = author.note("before");
    assert!(ann.publish(&before).await.0);
    for id in ["a", "b"] {
        assert_eq!(stranger.event(id).await["id"], before.id().to_hex(), "control: it is subscribed");
    }
    known.event("a").await;

    let rules = Rules { auth_to_read: true, ..(*relay.rules.load_full()).clone() };
    relay.rules.store(Arc::new(rules));
    let (one, other) = (author.note("after"), author.note("and after that"));
    assert!(ann.publish(&one).await.0 && ann.publish(&other).await.0);
    for event in [&one, &other] {
        assert_eq!(known.event("a").await["id"], event.id().to_hex());
    }
    for id in ["a", "b"] {
        assert!(stranger.closed(id).await.starts_with("auth-required: "));
    }
    // Each subscription was closed once, and a client with the rights can open it again.
    assert!(stranger.authenticate(&reader).await.0);
    assert_eq!(stranger.subscribe("a", json!({"kinds": [1]})).await.len(), 3);
    assert!(stranger.unexpected().is_empty(), "{:?}", stranger.unexpected());
}

#[tokio::test]
async fn direct_messages_go_to_their_recipients_alone() {
    let relay = Relay::start().await;
    let (sender, ann, bob) = (Author::new(), Author::new(), Author::new());
    let (mut publisher, mut reader, mut stranger) =
        (relay.connect().await, relay.connect().await, relay.connect().await);
    let to = |author: &Author, content| sender.event(1059, &[&["p", &author.pubkey().to_hex()]], content);

    reader.send(json!(["REQ", "dm", {"kinds": [1059]}])).await;
    assert!(reader.closed("dm").await.starts_with("auth-required: "));
    // A client that asks for everything does not see them, stored or live.
    stranger.subscribe("all", json!({})).await;
    let early = to(&ann, "early");
    assert!(publisher.publish(&early).await.0);
    assert_eq!(reader.authenticate(&ann).await, (true, String::new()));
    assert_eq!(reader.subscribe("dm", json!({"kinds": [1059]})).await.len(), 1);
    let (late, others) = (to(&ann, "late"), to(&bob, "not Ann's"));
    assert!(publisher.publish(&others).await.0 && publisher.publish(&late).await.0);
    assert_eq!(reader.event("dm").await["id"], late.id().to_hex());

    // A second key on the same connection counts as well, for subscriptions that are open already.
    assert!(reader.authenticate(&bob).await.0);
    let second = to(&bob, "second");
    assert!(publisher.publish(&second).await.0);
    assert_eq!(reader.event("dm").await["id"], second.id().to_hex());
    let note = sender.note("public");
    assert!(publisher.publish(&note).await.0);
    assert_eq!(stranger.event("all").await["id"], note.id().to_hex(), "and nothing before it");
    reader.assert_served().await;
    assert!(reader.unexpected().is_empty() && stranger.unexpected().is_empty());
}

#[tokio::test]
async fn only_an_answer_to_this_connections_challenge_authenticates() {
    let relay = Relay::with(|setup| setup.rules.auth_to_read = true).await;
    let (mut client, other, ann) = (relay.connect().await, relay.connect().await, Author::new());
    assert!(client.challenge.len() == 32 && client.challenge != other.challenge);
    client.send(json!(["REQ", "s", {}])).await;
    assert!(client.closed("s").await.starts_with("auth-required: "));
    let url = relay.url();
    let good = ann.auth(&client.challenge, &url);
    let forged = good.text().replace("\"sig\":\"", "\"sig\":\"0").replacen("\"}", "", 1);
    for (what, event) in [
        ("another's challenge", ann.auth(&other.challenge, &url)),
        ("another relay", ann.auth(&client.challenge, "ws://elsewhere.example")),
        ("another kind", ann.event(1, &[&["relay", &url], &["challenge", &client.challenge]], "")),
    ] {
        client.send_text(format!("[\"AUTH\",{}]", event.text())).await;
        assert!(!client.ok(event.id()).await.0, "{what}");
    }
    client.send_text(format!("[\"AUTH\",{forged}]")).await;
    assert_eq!(client.next_where(|message| message[0] == "OK").await[2], false);
    let stranger = Author::new().auth(&client.challenge, &url);
    let signature = |text: &str| text[text.len() - 130..].to_owned();
    let forged = good.text().replace(&signature(good.text()), &signature(stranger.text()));
    client.send_text(format!("[\"AUTH\",{forged}]")).await;
    assert!(!client.ok(good.id()).await.0, "another's signature");
    client.send(json!(["REQ", "s", {}])).await;
    assert!(client.closed("s").await.starts_with("auth-required: "));

    // Pipelined: the REQ behind an AUTH is read with the new rights.
    client.send_text(format!("[\"AUTH\",{}]", good.text())).await;
    client.send(json!(["REQ", "s", {"limit": 0}])).await;
    assert!(client.ok(good.id()).await.0);
    client.stored("s").await;
}

#[tokio::test]
async fn the_relay_may_be_known_by_a_public_url() {
    let relay = Relay::with(|setup| {
        setup.settings.public_urls =
            ["wss://relay.example", "ws://relay.onion"].map(|url| RelayUrl::parse(url).unwrap()).into();
    })
    .await;
    let (mut client, ann) = (relay.connect().await, Author::new());
    let (accepted, words) = client.authenticate(&ann).await;
    assert!(!accepted, "the address it was reached by is not its name");
    assert!(words.ends_with("must name wss://relay.example"), "{words}");
    for url in ["wss://relay.example/", "WSS://Relay.Example:443", "ws://relay.onion"] {
        assert_eq!(client.authenticate_at(url, &ann).await, (true, String::new()), "{url}");
    }
}

/// A man in the middle passes our challenge on to its own clients, whose answers name its address, not ours.
#[tokio::test]
async fn without_a_public_url_a_name_that_may_be_another_relays_authenticates_nobody() {
    let relay = Relay::with(|setup| setup.settings.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let ann = Author::new();
    let connect = async |headers: &[(&'static str, &str)]| {
        let stream = tokio::net::TcpStream::connect(relay.address).await.unwrap();
        Client::request(stream, relay.address, headers).await.unwrap()
    };
    for (headers, url) in [
        (&[("host", "evil.example")][..], "ws://evil.example"),
        (&[("host", "evil.example"), ("x-forwarded-proto", "https")], "wss://evil.example"),
        (&[("host", "203.0.113.9:7777")], "ws://203.0.113.9:7777"),
        (&[("host", "localhost.evil.example")], "ws://localhost.evil.example"),
        // The Host header and the client's answer must agree, too.
        (&[("host", "localhost")], "ws://evil.example"),
    ] {
        let mut client = connect(headers).await;
        let (accepted, words) = client.authenticate_at(url, &ann).await;
        assert!(!accepted && words.starts_with("invalid: ") && words.contains("public_url"), "{url}: {words}");
        client.assert_served().await;
    }

    for (headers, url) in [
        (&[][..], &*relay.url()),
        (&[("host", "localhost:7777")], "ws://LOCALHOST:7777/"),
        (&[("host", "192.168.1.5"), ("x-forwarded-proto", "https")], "wss://192.168.1.5:443"),
    ] {
        assert_eq!(connect(headers).await.authenticate_at(url, &ann).await, (true, String::new()), "control: {url}");
    }
}

#[tokio::test]
async fn who_talks_too_fast_is_told_in_kind() {
    let relay = Relay::with(|setup| setup.settings.messages = RateLimit::new(1, 3)).await;
    let mut client = relay.connect().await;
    for id in ["a", "b", "c"] {
        client.subscribe(id, json!({"limit": 0})).await;
    }
    let event = Author::new().note("too much");
    let (stored, words) = client.publish(&event).await;
    assert!(!stored && words.starts_with("rate-limited: "), "{words}");
    client.send(json!(["REQ", "d", {}])).await;
    assert!(client.closed("d").await.starts_with("rate-limited: "));
    client.send_text("nonsense").await;
    assert!(client.notice().await.starts_with("rate-limited: "));
    relay.change(|settings| settings.messages = None);
    assert!(client.publish(&event).await.0);
}

/// A CLOSE ends a subscription for good: no event comes under its id, and its place is free.
#[tokio::test]
async fn a_close_is_obeyed_however_fast_it_comes() {
    let relay = Relay::with(|setup| setup.settings.max_subscriptions = 2).await;
    let (mut client, mut publisher) = (relay.connect().await, relay.connect().await);
    client.subscribe("open", json!({})).await;
    client.subscribe("closed", json!({})).await;

    // The bucket holds one message, and is empty after the first CLOSE, which ends no subscription.
    relay.change(|settings| settings.messages = RateLimit::new(1, 1));
    client.send(json!(["CLOSE", "unknown"])).await;
    client.send(json!(["CLOSE", "closed"])).await;
    client.send(json!(["REQ", "control", {}])).await;
    assert!(client.closed("control").await.starts_with("rate-limited: "), "control: the rate is over");
    relay.change(|settings| settings.messages = None);
    let note = Author::new().note("after the CLOSE");
    assert!(publisher.publish(&note).await.0);
    assert_eq!(client.event("open").await["id"], note.id().to_hex());
    client.subscribe("next", json!({"limit": 0})).await;
    assert!(client.unexpected().is_empty(), "neither an event nor a word: {:?}", client.unexpected());
}

#[tokio::test]
async fn an_address_publishes_within_its_rate_over_all_connections() {
    let relay = Relay::with(|setup| setup.settings.events_per_address = RateLimit::new(1, 2)).await;
    let (author, mut first, mut second) = (Author::new(), relay.connect().await, relay.connect().await);
    assert!(first.publish(&author.note("1")).await.0 && second.publish(&author.note("2")).await.0);
    let (stored, words) = second.publish(&author.note("3")).await;
    assert!(!stored && words.starts_with("rate-limited: "), "{words}");
    second.assert_served().await;
}

/// A client may send any number of messages before it reads: their answers wait, within their bound, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_lost_however_late_it_is_read() {
    for max_pending_replies in [1, 256] {
        let relay = Relay::with(|setup| {
            setup.settings.max_pending_replies = max_pending_replies;
            setup.ingest.queue = 16;
        })
        .await;

        let mut client = relay.connect().await;
        let author = Author::new();
        let events: Vec<_> = (0..600).map(|number| author.note(&number.to_string())).collect();
        for event in &events {
            client.send_event(event).await;
        }
        for number in 0..600 {
            // For a kind without events here: a note could be committed between a REQ and its CLOSE.
            client.send(json!(["REQ", number.to_string(), {"kinds": [7], "limit": 0}])).await;
            client.send(json!(["CLOSE", number.to_string()])).await;
        }

        client.send(json!(["COUNT", "last", {"kinds": [1]}])).await;
        let mut waiting: HashSet<String> = events.iter().map(|event| event.id().to_hex()).collect();
        loop {
            let message = client.next().await;
            match message[0].as_str().unwrap() {
                "OK" => assert!(message[2] == true && waiting.remove(message[1].as_str().unwrap()), "{message}"),
                // A CLOSE that comes before the answer ends the query.
                "EOSE" => {}
                _ => assert_eq!(message[0], "COUNT", "{message}"),
            }
            if waiting.is_empty() {
                break;
            }
        }
        client.assert_served().await;
    }
}

#[tokio::test]
async fn after_closed_nothing_comes_under_that_id() {
    let relay = Relay::with(|setup| setup.settings.parse.max_filters = 2).await;
    let (author, mut ann, mut bob) = (Author::new(), relay.connect().await, relay.connect().await);
    let refused = [
        json!(["REQ", "s", {"kinds": [1], "search": "x"}]),
        json!(["REQ", "s", {"kinds": [1]}, {}, {}]),
        json!(["REQ", "s", {"ids": ["short"]}]),
    ];

    for (number, request) in refused.into_iter().enumerate() {
        bob.subscribe("s", json!({"kinds": [1], "limit": 0})).await;
        assert!(ann.publish(&author.note(&format!("heard {number}"))).await.0);
        bob.event("s").await;
        bob.send(request).await;
        bob.closed("s").await;
        assert!(ann.publish(&author.note(&format!("unheard {number}"))).await.0);
        bob.assert_served().await;
        assert!(bob.unexpected().is_empty(), "{:?}", bob.unexpected());
    }
    until("the matcher to let go of all", || relay.log.subscriptions().0 == 0).await;
}

#[tokio::test]
async fn a_count_is_answered_whatever_follows_it() {
    let store = Arc::new(Held::new());
    let relay = Relay::with(|setup| setup.store = store.clone()).await;
    let mut client = relay.connect().await;
    client.send(json!(["COUNT", "q", {"kinds": [1]}])).await;
    until("the count to begin", || store.reads() == 1).await;
    client.send(json!(["REQ", "q", {"kinds": [2]}])).await;
    until("the query to begin", || store.reads() == 2).await;
    // Control: CLOSE ends both.
    client.send(json!(["COUNT", "closed", {"kinds": [3]}])).await;
    client.send(json!(["CLOSE", "closed"])).await;
    store.release();
    client.next_where(|value| *value == json!(["COUNT", "q", {"count": 0}])).await;
    client.next_where(|value| *value == json!(["EOSE", "q"])).await;
    client.assert_served().await;
    assert!(client.unexpected().is_empty(), "{:?}", client.unexpected());
}

#[tokio::test]
async fn no_more_queries_run_than_one_client_may_have() {
    let store = Arc::new(Held::new());
    let relay = Relay::with(|setup| {
        setup.store = store.clone();
        setup.settings.max_running_queries = 4;
    })
    .await;

    let (mut busy, mut other) = (relay.connect().await, relay.connect().await);
    for number in 0..50 {
        busy.send(json!(["REQ", number.to_string(), {"kinds": [number]}])).await;
    }
    until("queries to begin", || store.reads() >= 4).await;
    for _ in 0..20 {
        other.assert_served().await;
        assert_eq!(store.reads(), 4);
    }

    store.release();
    for number in 0..50 {
        busy.stored(&number.to_string()).await;
    }
}

/// A client with many reads does not delay the writes of others.
#[tokio::test]
async fn events_are_stored_while_readers_have_the_store() {
    let store = Arc::new(Held::new());
    let relay = Relay::with(|setup| setup.store = store.clone()).await;
    let (author, mut client) = (Author::new(), relay.connect().await);
    let event = author.note("stored");
    assert_eq!(client.publish(&event).await, (true, String::new()));
    // The writer recognises duplicates.
    let (accepted, words) = client.publish(&event).await;
    assert!(accepted && words.starts_with("duplicate:"), "{words}");
    store.release();
    assert_eq!(client.subscribe("s", json!({})).await.len(), 1);
}
