//! A relay process on PostgreSQL, as its clients meet it.

use crate::clients::{Author, Client};
use deploy::Home;
use deploy::postgres::PostgresCluster;
use deploy::proxy::Proxy;
use deploy::relay::Relay;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A relay on these servers that is not started yet.
fn relay(name: &str, home: &Arc<Home>, urls: &[String]) -> Relay {
    let relay = Relay::new(name, Path::new(env!("CARGO_BIN_EXE_relay")), home.clone()).unwrap();
    relay.set("RELAY_DATABASE_URLS", urls.join(",")).set("RELAY_TIMEOUTS_DRAIN_SECONDS", "0")
}

async fn connect(relay: &Relay) -> Client {
    Client::connect((Ipv4Addr::LOCALHOST, relay.port).into()).await
}

async fn restart(relay: Relay, setting: &str, value: &str) -> Relay {
    let mut relay = relay.set(setting, value);
    relay.stop().await.unwrap();
    relay.start().await.unwrap();
    relay
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_events_are_stored_found_and_delivered() {
    let home = Home::temporary().unwrap();
    let cluster = PostgresCluster::setup().home(home.clone()).start().await.unwrap();
    let mut redis = deploy::redis::RedisServer::new("redis", home.clone()).unwrap();
    redis.start().await.unwrap();
    let new = |name| relay(name, &home, &cluster.database_urls("postgres")).set("RELAY_REDIS_URL", redis.url());
    // Not repetitive, so that compression does not make it short.
    let long = |bytes: u64| {
        (0..bytes / 16).map(|n| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect::<String>()
    };
    let value = long(1 << 20);
    let topics: Vec<String> = (0..5_001).map(|n| format!("topic {n}")).collect();
    let tags: Vec<[&str; 2]> = topics.iter().map(|topic| ["t", topic]).collect();
    let tags: Vec<&[&str]> = tags.iter().map(<[_; 2]>::as_slice).collect();
    let author = Author::new();
    let events = [
        author.event(1, &[&["r", &value]], ""),
        author.event(1, &[], &long(200 << 10)),
        author.event(1, &tags[..5_000], ""),
    ];

    // A refusal of a large value names the setting, until that is raised.
    let mut one = new("relay-1");
    one.start().await.unwrap();
    let mut client = connect(&one).await;
    client.send_event(&events[0]).await;
    let words = client.notice().await;
    assert!(words.contains("limits.max_message_bytes"), "{words}");
    let one = restart(one, "RELAY_LIMITS_MAX_MESSAGE_BYTES", "2097152").await;
    let mut client = connect(&one).await;
    for (event, setting) in
        [(&events[1], "limits.max_content_chars"), (&author.event(1, &tags, ""), "limits.max_event_tags")]
    {
        let (stored, words) = client.publish(event).await;
        assert!(!stored && words.starts_with("invalid: ") && words.contains(setting), "{words}");
    }
    let mut one = restart(one, "RELAY_LIMITS_MAX_CONTENT_CHARS", "204800").await;
    let settings = one.settings.clone();
    let mut two = settings.iter().fold(new("relay-2"), |relay, (name, value)| relay.set(name, value));
    two.start().await.unwrap();

    // The last differs from a stored value in its last byte.
    let other = format!("{}!", &value[..value.len() - 1]);
    let filters = [
        (json!({"#r": [value]}), Some(0)),
        (json!({"ids": [events[1].id().to_hex()]}), Some(1)),
        (json!({"#t": ["topic 0"]}), Some(2)),
        (json!({"#t": ["topic 4999"], "authors": [author.pubkey().to_hex()]}), Some(2)),
        (json!({"#r": [other]}), None),
    ];
    let wanted = |event: usize| serde_json::from_str::<Value>(events[event].text()).unwrap();
    let mut live = connect(&two).await;
    for (n, (filter, _)) in filters.iter().enumerate() {
        assert_eq!(live.subscribe(&n.to_string(), filter.clone()).await, Vec::<Value>::new());
    }
    let mut publisher = connect(&one).await;
    for event in &events {
        assert_eq!(publisher.publish(event).await, (true, String::new()));
    }
    for (n, (_, event)) in filters.iter().enumerate() {
        if let Some(event) = event {
            assert!(live.event(&n.to_string()).await == wanted(*event), "filter {n}, live");
        }
    }
    live.assert_served().await;
    assert!(live.unexpected().is_empty(), "{} messages more", live.unexpected().len());
    for relay in [&one, &two] {
        let mut reader = connect(relay).await;
        for (n, (filter, event)) in filters.iter().enumerate() {
            let stored = reader.subscribe(&n.to_string(), filter.clone()).await;
            let expected: Vec<_> = event.iter().map(|event| wanted(*event)).collect();
            assert!(stored == expected, "filter {n}, stored: {} events", stored.len());
        }
    }
    for relay in [&mut one, &mut two] {
        assert!(relay.stop().await.unwrap(), "it had to be killed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_primary_is_an_error_for_writers_and_nothing_to_readers() {
    let home = Home::temporary().unwrap();
    let mut cluster = PostgresCluster::setup().replicas(2).home(home.clone()).start().await.unwrap();
    let mut lines = Vec::new();
    for server in &cluster.servers {
        lines.push(Proxy::start((Ipv4Addr::LOCALHOST, server.port()).into()).await.unwrap());
    }
    let urls: Vec<_> = lines.iter().map(|line| format!("postgres://postgres@{}/postgres", line.address())).collect();
    let mut relay = relay("relay-1", &home, &urls)
        .set("RELAY_POSTGRES_CONNECT_TIMEOUT_SECONDS", "1")
        .set("RELAY_DATABASE_POOL_WAIT_SECONDS", "1");
    relay.start().await.unwrap();
    let (author, mut client) = (Author::new(), connect(&relay).await);
    let first = author.note("before");
    assert_eq!(client.publish(&first).await, (true, String::new()));
    cluster.wait_applied().await.unwrap();

    lines[0].silence(true);
    // The two settings above, and an allowance for a busy machine.
    let bound = Duration::from_secs(8);
    for n in 0..2 {
        let begun = Instant::now();
        let (stored, words) = client.publish(&author.note(&format!("refused {n}"))).await;
        println!("refused after {:?}: {words}", begun.elapsed());
        assert!(!stored && words.starts_with("error: ") && begun.elapsed() < bound, "{words}");
        // By its author, the primary would be asked for its head.
        let filter = json!({"authors": [author.pubkey().to_hex()], "limit": 9 - n});
        let begun = Instant::now();
        let stored = client.subscribe("mine", filter).await;
        assert!(stored.iter().any(|event| event["content"] == "before"), "{stored:?}");
        assert!(begun.elapsed() < bound, "{:?}", begun.elapsed());
    }

    cluster.failover().await.unwrap();
    let promoted = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (stored, words) = client.publish(&author.note(&format!("after {attempts}"))).await;
        if stored {
            break;
        }
        assert!(words.starts_with("error: ") && promoted.elapsed() < Duration::from_secs(30), "{words}");
    }
    println!("writes were back {:?} after the promotion, in attempt {attempts}", promoted.elapsed());
    assert!(promoted.elapsed() < Duration::from_secs(30));
    // The line is still silent: only the promotion can have helped.
    assert!(relay.stop().await.unwrap(), "it had to be killed");
}
