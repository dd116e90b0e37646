//! The filters that a client may send: unusual ones are answered by their literal meaning, large ones within bounds,
//! and a refusal says what to do.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::{Author, Client, Relay, until};
use relay::types::{Filter, Kind, PrivateKinds};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Sends a REQ of several filters and returns what is stored.
async fn ask(client: &mut Client, id: &str, filters: &[Value]) -> Vec<Value> {
    send(client, "REQ", id, filters).await;
    client.stored(id).await
}

async fn count(client: &mut Client, filters: &[Value]) -> Value {
    send(client, "COUNT", "n", filters).await;
    client.next_where(|value| value[1] == "n").await[2]["count"].clone()
}

async fn send(client: &mut Client, verb: &str, id: &str, filters: &[Value]) {
    let message: Vec<Value> = [json!(verb), json!(id)].into_iter().chain(filters.iter().cloned()).collect();
    client.send(json!(message)).await;
}

/// Some clients probe a silent relay with such a filter, and take EOSE as a sign of life.
#[tokio::test]
async fn what_no_event_can_match_gets_eose_and_stays_open() {
    let relay = Relay::start().await;
    let (author, mut ann, mut bob) = (Author::new(), relay.connect().await, relay.connect().await);
    assert!(ann.publish(&author.note("stored")).await.0);
    let never = [
        json!({"kinds": [99_999], "limit": 0}),
        json!({"kinds": [65_536, 9_007_199_254_740_992_u64]}),
        json!({"#a": []}),
        json!({"authors": [], "kinds": [1]}),
        json!({"ids": []}),
        json!({"kinds": []}),
        json!({"since": 2, "until": 1}),
        json!({"since": u64::MAX}),
    ];

    for (number, filter) in never.iter().enumerate() {
        assert_eq!(bob.subscribe(&number.to_string(), filter.clone()).await, [] as [Value; 0], "{filter}");
        assert_eq!(count(&mut bob, std::slice::from_ref(filter)).await, 0, "{filter}");
    }
    assert_eq!(ask(&mut bob, "all", &never).await, [] as [Value; 0]);
    assert_eq!(count(&mut bob, &never).await, 0);
    let open = never.len() + 1;
    until("all to be live", || relay.log.subscriptions() == (open, 0)).await;
    assert!(ann.publish(&author.note("live")).await.0);
    bob.assert_served().await;
    assert!(bob.unexpected().is_empty(), "nothing is widened: {:?}", bob.unexpected());
}

#[tokio::test]
async fn what_no_event_can_match_leaves_its_neighbours_alone() {
    let relay = Relay::start().await;
    let (author, mut ann, mut bob) = (Author::new(), relay.connect().await, relay.connect().await);
    assert!(ann.publish(&author.note("stored")).await.0 && ann.publish(&author.event(7, &[], "+")).await.0);
    let filters =
        [json!({"#a": []}), json!({"kinds": [99_999, 1]}), json!({"authors": []}), json!({"since": 2, "until": 1})];
    assert_eq!(ask(&mut bob, "s", &filters).await.len(), 1);
    assert_eq!(count(&mut bob, &filters).await, 1);
    let live = author.note("live");
    assert!(ann.publish(&author.event(7, &[], "-")).await.0 && ann.publish(&live).await.0);
    assert_eq!(bob.event("s").await["id"], live.id().to_hex());
    assert!(bob.subscribe("until", json!({"until": u64::MAX})).await.len() == 4, "every event is earlier");
    assert!(bob.unexpected().is_empty(), "{:?}", bob.unexpected());
}

#[tokio::test]
async fn as_many_events_come_as_ids_are_named() {
    let relay = Relay::with(|setup| setup.settings.query.max_limit = 610).await;
    let (author, mut client) = (Author::new(), relay.connect().await);
    let events: Vec<_> = (0..620).map(|n| author.event_at(1_700_000_000 + n, 1, &[], "")).collect();
    for event in &events {
        client.send_event(event).await;
    }
    for event in &events {
        assert!(client.ok(event.id()).await.0);
    }
    let ids: Vec<String> = events.iter().map(|event| event.id().to_hex()).collect();
    assert_eq!(client.subscribe("some", json!({"ids": ids[..600]})).await.len(), 600, "more than default_limit");
    assert_eq!(client.subscribe("all", json!({"ids": ids})).await.len(), 610, "max_limit holds");
    assert_eq!(client.subscribe("few", json!({"ids": ids, "limit": 7})).await.len(), 7);
    assert_eq!(client.subscribe("none", json!({"ids": ids, "limit": 0})).await.len(), 0);
    assert_eq!(client.subscribe("kind", json!({"kinds": [1]})).await.len(), 500, "control: the default");
}

/// The public part of a mixed REQ is answered; the live events of the private part come as soon as the client may read
/// them.
#[tokio::test]
async fn a_private_filter_does_not_take_its_neighbours_along() {
    let relay = Relay::start().await;
    let (sender, ann) = (Author::new(), Author::new());
    let (mut publisher, mut reader) = (relay.connect().await, relay.connect().await);
    let wrap = |content| sender.event(1059, &[&["p", &ann.pubkey().to_hex()]], content);
    let (note, early) = (sender.note("public"), wrap("early"));
    assert!(publisher.publish(&note).await.0 && publisher.publish(&early).await.0);

    let filters = [json!({"kinds": [1]}), json!({"kinds": [1059]})];
    let stored = ask(&mut reader, "mixed", &filters).await;
    assert_eq!(stored.iter().map(|event| &event["id"]).collect::<Vec<_>>(), [&json!(note.id().to_hex())]);
    assert_eq!(count(&mut reader, &filters).await, 1);
    for verb in ["REQ", "COUNT"] {
        send(&mut reader, verb, "private", &[filters[1].clone(), json!({"kinds": [21_059], "limit": 3})]).await;
        assert!(reader.closed("private").await.starts_with("auth-required: "), "nothing of it may be served");
        send(&mut reader, verb, "private", &[filters[1].clone(), json!({"authors": []})]).await;
        assert!(reader.closed("private").await.starts_with("auth-required: "), "an impossible filter hides nothing");
    }

    let (unseen, other) = (wrap("before AUTH"), sender.note("live"));
    assert!(publisher.publish(&unseen).await.0 && publisher.publish(&other).await.0);
    assert_eq!(reader.event("mixed").await["id"], other.id().to_hex(), "and not the gift wrap before it");
    assert!(reader.authenticate(&ann).await.0);
    let seen = wrap("after AUTH");
    assert!(publisher.publish(&seen).await.0);
    assert_eq!(reader.event("mixed").await["id"], seen.id().to_hex());
    assert_eq!(ask(&mut reader, "again", &filters).await.len(), 5, "what is stored comes when it is asked for again");
    assert!(reader.unexpected().is_empty(), "{:?}", reader.unexpected());
}

/// A follow list of 2,500 people, in one filter, as some clients ask for it.
#[tokio::test]
async fn a_great_follow_list_is_served_as_a_whole() {
    let relay = Relay::start().await;
    let (author, mut client) = (Author::new(), relay.connect().await);
    let mut follows: Vec<String> = (0..2_499_u32).map(|n| format!("{n:064x}")).collect();
    follows.push(author.pubkey().to_hex());
    let tags: Vec<[&str; 2]> = follows.iter().map(|key| ["p", key]).collect();
    let tags: Vec<&[&str]> = tags.iter().map(|tag| &tag[..]).collect();
    let list = author.event(3, &tags, "");
    assert!(list.text().len() > 131_072);
    assert_eq!(client.publish(&list).await, (true, String::new()));
    let stored = client.subscribe("feed", json!({"authors": follows, "kinds": [1, 3, 6], "limit": 100})).await;
    assert_eq!(stored.len(), 1);
    assert_eq!(count(&mut client, &[json!({"authors": follows}), json!({"#p": follows})]).await, 1);
    let note = author.note("live");
    assert!(client.publish(&note).await.0);
    assert_eq!(client.event("feed").await["id"], note.id().to_hex());
}

#[tokio::test]
async fn two_hundred_filters_are_served_and_no_more() {
    let relay = Relay::start().await;
    let (author, mut client) = (Author::new(), relay.connect().await);
    let events: Vec<_> = (0..200).map(|n: u16| author.event(n + 2_000, &[], "")).collect();
    for event in &events {
        client.send_event(event).await;
    }
    for event in &events {
        assert!(client.ok(event.id()).await.0);
    }
    let mut filters: Vec<Value> = (0..200).map(|n| json!({"kinds": [n + 2_000], "limit": 1})).collect();
    let found = ask(&mut client, "s", &filters).await;
    assert_eq!(found.iter().map(|event| event["kind"].as_u64().unwrap()).collect::<HashSet<_>>().len(), 200);
    filters.push(json!({"kinds": [1]}));
    send(&mut client, "REQ", "s", &filters).await;
    assert_eq!(client.closed("s").await, "invalid: more than 200 filters");
}

/// Small messages that would cost much memory are refused, whichever fields they use.
#[tokio::test]
async fn the_cost_of_one_req_and_of_all_subscriptions_is_bounded() {
    let relay = Relay::start().await;
    let mut client = relay.connect().await;
    let kinds: Vec<u16> = (0..60_000).collect();
    for verb in ["REQ", "COUNT"] {
        send(&mut client, verb, "kinds", &[json!({"kinds": kinds})]).await;
        let words = client.closed("kinds").await;
        assert!(words.starts_with("invalid: ") && words.contains("limits.max_req_bytes"), "{words}");
    }
    let keys: Vec<String> = (0..10_u32).map(|n| format!("{n:064x}")).collect();
    let pairs: Vec<Value> = (0..200).map(|n| json!({"authors": keys, "kinds": kinds[n..n + 300]})).collect();
    send(&mut client, "REQ", "pairs", &pairs).await;
    assert!(client.closed("pairs").await.contains("limits.max_req_bytes"), "600,000 lists of the store");

    let follows: Vec<String> = (0..1_000_u32).map(|n| format!("{n:064x}")).collect();
    let feed = |n: usize| json!({"authors": follows, "kinds": [n], "limit": 0});
    let bytes = Filter::parse(&feed(1).to_string()).unwrap().held_bytes();
    relay.change(|settings| settings.max_subscriptions_bytes = 3 * bytes);
    for n in 1..=3 {
        client.subscribe(&n.to_string(), feed(n)).await;
    }
    client.send(json!(["REQ", "4", feed(4)])).await;
    let words = client.closed("4").await;
    assert!(words.starts_with("rate-limited: too many subscriptions"), "{words}");
    client.subscribe("3", feed(5)).await;
    client.send(json!(["CLOSE", "1"])).await;
    client.subscribe("4", feed(4)).await;
    relay.connect().await.subscribe("other", feed(1)).await;
    assert_eq!(count(&mut client, &[feed(1)]).await, 0, "a COUNT holds nothing");
}

#[tokio::test]
async fn clients_find_the_words_that_they_look_for() {
    let relay = Relay::with(|setup| setup.settings.max_subscriptions = 1).await;
    let mut client = relay.connect().await;
    client.subscribe("a", json!({"limit": 0})).await;
    client.send(json!(["REQ", "b", {"limit": 0}])).await;
    assert_eq!(
        client.closed("b").await,
        "rate-limited: too many subscriptions: a connection may hold at most 1, close some first"
    );

    for verb in ["NEG-OPEN", "NEG-MSG", "NEG-CLOSE"] {
        client.send(json!([verb, "n", {"kinds": [1]}, "6100"])).await;
        let words = client.notice().await;
        assert!(words.starts_with("unsupported: ") && words.contains("negentropy"), "{words}");
    }

    for (filter, words) in [
        (json!({"kinds": ["1"]}), "invalid: kinds must be integers from 0 to 65535"),
        (json!({"kinds": 1}), "invalid: kinds must be a list of integers from 0 to 65535"),
        (json!({"#t": [1]}), "invalid: #t must be a list of strings"),
        (json!({"since": null}), "invalid: since must be an integer, not negative"),
        (json!(7), "invalid: a filter must be an object"),
    ] {
        for verb in ["REQ", "COUNT"] {
            send(&mut client, verb, "w", std::slice::from_ref(&filter)).await;
            assert_eq!(client.closed("w").await, words);
        }
    }

    client.send(json!(["EVENT", {"id": "00".repeat(32), "kind": "1"}])).await;
    let ok = client.next_where(|value| value[0] == "OK").await;
    assert_eq!(ok, json!(["OK", "00".repeat(32), false, "invalid: kind must be an integer from 0 to 65535"]));
}

/// `naddr` with an empty identifier: stored, live, counted, and from the cache.
#[tokio::test]
async fn the_empty_identifier_is_found_where_there_is_none() {
    let relay = Relay::start().await;
    let (author, mut ann, mut bob) = (Author::new(), relay.connect().await, relay.connect().await);
    let asked = json!({"authors": [author.pubkey().to_hex()], "#d": [""]});
    assert!(bob.subscribe("live", asked.clone()).await.is_empty());
    let events = [
        author.event(30_001, &[&["t", "x"]], "no d"),
        author.event(30_002, &[&["d"]], "d without a value"),
        author.event(30_003, &[&["d", ""]], "an empty d"),
        author.event(30_004, &[&["d", "x"]], "another"),
        author.event(1, &[], "a note has no identifier"),
    ];

    for event in &events {
        assert!(ann.publish(event).await.0);
    }
    let found: HashSet<Value> = events[..3].iter().map(|event| json!(event.id().to_hex())).collect();
    let mut live = HashSet::new();
    for _ in &found {
        live.insert(bob.event("live").await["id"].clone());
    }

    assert_eq!(live, found);
    // The second time from the cache.
    for id in ["stored", "cached"] {
        let stored: HashSet<Value> =
            bob.subscribe(id, asked.clone()).await.iter().map(|event| event["id"].clone()).collect();
        assert_eq!(stored, found, "{id}");
        assert_eq!(count(&mut bob, std::slice::from_ref(&asked)).await, 3, "{id}");
    }

    bob.assert_served().await;
    assert!(bob.unexpected().is_empty(), "{:?}", bob.unexpected());
}

/// NIP-91: stored, live and counted, where the setting is on; unknown where it is off.
#[tokio::test]
async fn all_of_several_tags_are_asked_for_where_the_setting_is_on() {
    let relay = Relay::with(|setup| setup.settings.parse.and_tags = true).await;
    let (author, mut ann, mut bob) = (Author::new(), relay.connect().await, relay.connect().await);
    let note = |topics: &[&str]| {
        let tags: Vec<[&str; 2]> = topics.iter().map(|topic| ["t", *topic]).collect();
        author.event(1, &tags.iter().map(|tag| &tag[..]).collect::<Vec<_>>(), &topics.join(" "))
    };
    for topics in [&["cat"][..], &["meme", "cat"], &["cat", "black", "meme"], &["meme"]] {
        assert!(ann.publish(&note(topics)).await.0);
    }
    let both = json!({"&t": ["meme", "cat"]});
    // What clients add for relays that know no `&t`, and the proposal's own example.
    let with_choices = json!({"&t": ["meme", "cat"], "#t": ["meme", "cat"]});
    let black_or_white = json!({"kinds": [1], "&t": ["meme", "cat"], "#t": ["meme", "cat", "black", "white"]});
    for (filter, found) in [(&both, 2), (&with_choices, 2), (&black_or_white, 1), (&json!({"#t": ["meme", "cat"]}), 4)]
    {
        assert_eq!(ask(&mut bob, "s", std::slice::from_ref(filter)).await.len(), found, "{filter}");
        assert_eq!(count(&mut bob, std::slice::from_ref(filter)).await, found, "{filter}");
    }

    // Live: only what has all of them, whichever of them came first.
    ask(&mut bob, "s", std::slice::from_ref(&both)).await;
    let never = json!({"&t": []});
    assert_eq!(ask(&mut bob, "never", std::slice::from_ref(&never)).await, [] as [Value; 0]);
    until("it to be live", || relay.log.subscriptions() == (2, 1)).await;
    for topics in [&["cat", "one"][..], &["meme", "two"], &["dog", "cat", "meme"]] {
        assert!(ann.publish(&note(topics)).await.0);
    }
    assert_eq!(bob.event("s").await["content"], "dog cat meme", "and nothing before it");
    assert_eq!(count(&mut bob, std::slice::from_ref(&both)).await, 3);
    assert_eq!(count(&mut bob, &[never]).await, 0);
    assert!(bob.unexpected().is_empty(), "{:?}", bob.unexpected());

    relay.change(|settings| settings.parse.and_tags = false);
    send(&mut bob, "REQ", "off", &[both]).await;
    assert_eq!(bob.closed("off").await, "unsupported: unknown filter key `&t`");
}

/// What an application keeps for its user (NIP-78): stored, live and counted, for its author alone.
#[tokio::test]
async fn author_only_kinds_go_to_their_author_alone() {
    let author_only = PrivateKinds::default().with_author_only(vec![Kind(78), Kind(30_078)]);
    let relay = Relay::with(|setup| setup.settings.private_kinds = author_only.clone()).await;
    let (ann, bob) = (Author::new(), Author::new());
    let (mut publisher, mut own, mut named, mut stranger) =
        (relay.connect().await, relay.connect().await, relay.connect().await, relay.connect().await);
    // It names somebody, who gets a gift wrap by that but none of this.
    let bob_key = bob.pubkey().to_hex();
    let data = |kind, content| ann.event(kind, &[&["d", content], &["p", &bob_key]], content);

    stranger.send(json!(["REQ", "data", {"kinds": [78, 30_078]}])).await;
    assert!(stranger.closed("data").await.starts_with("auth-required: "));
    stranger.send(json!(["COUNT", "data", {"kinds": [30_078]}])).await;
    assert!(stranger.closed("data").await.starts_with("auth-required: "));
    assert!(publisher.publish(&data(30_078, "settings")).await.0);
    assert!(own.authenticate(&ann).await.0 && named.authenticate(&bob).await.0);
    let asked = json!({"authors": [ann.pubkey().to_hex()]});
    for (client, stored) in [(&mut own, 1), (&mut named, 0), (&mut stranger, 0)] {
        assert_eq!(client.subscribe("all", asked.clone()).await.len(), stored);
        client.send(json!(["COUNT", "n", asked])).await;
        assert_eq!(client.next_where(|message| message[0] == "COUNT").await[2]["count"], stored);
    }
    let (late, note) = (data(78, "late"), ann.note("public"));
    assert!(publisher.publish(&late).await.0 && publisher.publish(&note).await.0);
    assert_eq!(own.event("all").await["id"], late.id().to_hex());
    for client in [&mut own, &mut named, &mut stranger] {
        assert_eq!(client.event("all").await["id"], note.id().to_hex(), "and nothing before it");
    }

    // The control: as kinds for recipients they reach who is named.
    relay.change(|settings| settings.private_kinds = PrivateKinds::new(author_only.as_slice().to_vec()));
    assert_eq!(named.subscribe("all", asked.clone()).await.len(), 3);
    assert!(publisher.publish(&data(78, "last")).await.0);
    assert_eq!(named.event("all").await["content"], "last");
    assert_eq!(stranger.subscribe("all", asked).await.len(), 1);
}
