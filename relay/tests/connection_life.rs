//! The deadlines of a connection: silence, slow messages, slow reading, and the drain.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::raw::{self, TEXT, frame};
use kit::{Author, Client, Goodbye, Relay, patiently};
use relay::outbox::OutboxLimits;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_silent_client_is_pinged_and_a_dead_one_dropped() {
    let relay = Relay::with(|setup| {
        setup.settings.ping_interval = Some(Duration::from_millis(50));
        setup.settings.pong_timeout = Duration::from_millis(500);
    })
    .await;

    let mut alive = relay.connect().await;
    // This client never answers pings, as on a half-open connection.
    let mut dead = TcpStream::connect(relay.address).await.unwrap();
    dead.write_all(raw::get("/", raw::UPGRADE).as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let dropped = patiently("the dead client to be dropped", dead.read_to_end(&mut heard));
    tokio::select! {
        _ = dropped => {}
        _ = alive.goodbye() => panic!("control: a client that answers is kept"),
    }
    assert!(heard.ends_with(&[0x89, 0]), "it was pinged, once: {:?}", String::from_utf8_lossy(&heard));
    alive.assert_served().await;
}

#[tokio::test]
async fn a_message_must_not_trickle_in() {
    let relay = Relay::with(|setup| setup.settings.message_timeout = Duration::from_millis(300)).await;
    let message = frame(TEXT, b"[\"REQ\",\"slow\",{\"limit\":0}]");
    // Many whole messages never reach the deadline of a single message.
    let mut brisk = relay.connect().await;
    let mut slow = relay.connect().await;
    let trickle = async {
        for byte in &message {
            // A byte at a time: the test is about this pace, so the pause is no synchronisation.
            tokio::time::sleep(Duration::from_millis(100)).await;
            if slow.stream().write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };

    tokio::select! {
        () = trickle => panic!("control: {} bytes take longer than the timeout", message.len()),
        () = async { loop { brisk.assert_served().await } } => {}
        () = tokio::time::sleep(Duration::from_millis(1_000)) => {}
    }

    assert_eq!(slow.goodbye().await, Goodbye::Closed(1008, "a message took too long to arrive".to_owned()));
    brisk.assert_served().await;
    // The same in fragments, with pings between them.
    let mut sly = relay.connect().await;
    let poke = async {
        sly.stream().write_all(&frame(0x01, b"[")).await.unwrap();
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if sly.stream().write_all(&frame(0x89, b"")).await.is_err() {
                break;
            }
        }
    };

    let _ = tokio::time::timeout(Duration::from_millis(1_000), poke).await;
    assert!(matches!(sly.goodbye().await, Goodbye::Closed(1008, _) | Goodbye::Gone));
}

/// Publishes this many ephemeral events of this many bytes, which only outboxes keep.
async fn flood(relay: &Relay, events: usize, bytes: usize) {
    let (author, mut publisher) = (Author::new(), relay.connect().await);
    let content = "x".repeat(bytes);
    for number in 0..events {
        let event = author.event(20_001, &[&["n", &number.to_string()]], &content);
        assert!(publisher.publish(&event).await.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_dropped_and_harms_nobody() {
    let relay = Relay::with(|setup| setup.settings.write_stall = Duration::from_millis(300)).await;
    let mut deaf = Client::connect_with_buffer(relay.address, 4096).await;
    deaf.subscribe("all", json!({"kinds": [20_001], "limit": 0})).await;
    flood(&relay, 200, 50_000).await;

    // The relay closed it long before everything was sent.
    patiently("the relay to hang up on the one that does not read", async {
        loop {
            // Errors once the relay has reset the connection.
            if deaf.stream().write_all(&frame(0x8a, b"")).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    relay.connect().await.assert_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_gets_everything_later_once_and_in_order() {
    let relay = Relay::with(|setup| {
        setup.settings.outbox = OutboxLimits { max_events: 10, max_bytes: 1 << 20 };
        setup.ring_bytes = 64 << 20;
    })
    .await;

    let mut slow = Client::connect_with_buffer(relay.address, 4096).await;
    slow.subscribe("all", json!({"kinds": [1], "limit": 0})).await;
    let (author, mut publisher) = (Author::new(), relay.connect().await);
    let padding = "x".repeat(30_000);

    // More than the socket's buffers take.
    for number in 0..400 {
        assert!(publisher.publish(&author.note(&format!("{number} {padding}"))).await.0);
    }
    for number in 0..400 {
        let event = slow.event("all").await;
        assert_eq!(event["content"].as_str().unwrap().split(' ').next().unwrap(), number.to_string());
    }
    slow.assert_served().await;
    assert!(slow.unexpected().is_empty(), "nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_too_far_behind_is_told_so() {
    let relay = Relay::with(|setup| {
        setup.settings.outbox = OutboxLimits { max_events: 10, max_bytes: 1 << 20 };
        setup.ring_bytes = 1 << 20;
    })
    .await;
    let mut slow = Client::connect_with_buffer(relay.address, 4096).await;
    slow.subscribe("all", json!({"kinds": [1], "limit": 0})).await;
    let (author, mut publisher) = (Author::new(), relay.connect().await);
    let padding = "x".repeat(50_000);
    for number in 0..300 {
        assert!(publisher.publish(&author.note(&format!("{number} {padding}"))).await.0);
    }
    assert!(slow.closed("all").await.starts_with("error: too slow"));
    slow.assert_served().await;
}

#[tokio::test]
async fn when_the_relay_drains_every_client_is_told_to_come_back() {
    let relay = Relay::start().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(relay.connect().await);
    }
    let author = Author::new();
    let event = author.note("just in time");
    clients[0].send_event(&event).await;
    let address = relay.address;
    let probe = async {
        // Open connections are served until their turn to be closed comes; new ones are refused.
        let answer = raw::http(address, &raw::get("/", raw::UPGRADE)).await;
        assert_eq!(raw::status(&answer), 503);
    };

    relay.shutdown.drain(Duration::from_millis(400));
    probe.await;
    let stopped = tokio::spawn(relay.stop(Duration::from_millis(400)));
    assert_eq!(clients[0].ok(event.id()).await, (true, String::new()), "what was taken is answered");
    for client in &mut clients {
        assert_eq!(client.goodbye().await, Goodbye::Closed(1012, "the relay is shutting down".to_owned()));
    }
    drop(clients);
    stopped.await.unwrap();
}
