//! The memory of connections, in a process of its own.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::raw;
use kit::{Author, Child, Client, patiently, until};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "what other tests start as a process of its own"]
async fn child() {
    kit::child(|setup| setup.settings.write_stall = Duration::from_secs(3_600)).await;
}

/// Opens a WebSocket and reads up to the end of the challenge.
async fn idle(child: &Child) -> TcpStream {
    let mut stream = TcpStream::connect(child.address).await.unwrap();
    stream.write_all(raw::get("/", raw::UPGRADE).as_bytes()).await.unwrap();
    let mut heard = Vec::with_capacity(512);
    patiently("the challenge", async {
        while !heard.ends_with(b"\"]") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
        }
    })
    .await;
    stream
}

async fn kib_per_idle_connection(connections: u32) -> f64 {
    let child = Child::start(20_000).await;
    drop(idle(&child).await);
    let before = child.resident_kib();
    let mut held = Vec::new();
    for _ in 0..connections {
        held.push(idle(&child).await);
    }
    (child.resident_kib() - before) as f64 / f64::from(connections)
}

#[tokio::test]
async fn an_idle_connection_takes_little() {
    let kib = kib_per_idle_connection(500).await;
    assert!(kib < 16.0, "{kib:.1} KiB per idle connection");
}

/// `cargo test --release -p relay --test connection_memory measure -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn measure_idle_connections() {
    println!("{:.1} KiB per idle connection, of 5,000", kib_per_idle_connection(5_000).await);
}

/// A client that does not read costs as much memory as its outbox may hold, however much was sent to it. A client that
/// has once sent much costs no more than others afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_costs_no_more_than_its_outbox() {
    let child = Child::start(1_000).await;
    let mut publisher = Client::connect(child.address).await;
    let author = Author::new();
    let content = "x".repeat(50_000);
    let mut publish = async |events: usize| {
        for number in 0..events {
            let event = author.event(20_001, &[&["n", &number.to_string()]], &content);
            assert!(publisher.publish(&event).await.0);
        }
    };

    publish(20).await;
    let before = child.resident_kib();
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect_with_buffer(child.address, 4096).await;
        client.subscribe("all", json!({"kinds": [20_001], "limit": 0})).await;
        deaf.push(client);
    }

    publish(600).await;
    let grown = child.resident_kib().saturating_sub(before);
    // Each was sent 30 MB, of which 1 MB may wait; the texts are shared. The kernel's buffers do not count.
    assert!(grown < 12 * 1024, "{grown} KiB for four clients that were sent 30 MB each");
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_leave_no_large_buffers_behind() {
    let child = Child::start(1_000).await;
    let before = child.resident_kib();
    let (author, mut clients) = (Author::new(), Vec::new());
    // One at a time, so that one large buffer is enough for all of them.
    for _ in 0..100 {
        let mut client = Client::connect(child.address).await;
        assert!(client.publish(&author.event(20_001, &[], &"x".repeat(100_000))).await.0);
        clients.push(client);
    }
    until("memory to be given back", || child.resident_kib().saturating_sub(before) < 5 * 1024).await;
    clients[0].assert_served().await;
}

/// The outbox of a client that has gone is freed, however the connection ended.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    let child = Child::start(1_000).await;
    let mut publisher = Client::connect(child.address).await;
    let author = Author::new();
    let content = "x".repeat(50_000);
    let before = child.resident_kib();
    for round in 0..30 {
        let mut client = Client::connect_with_buffer(child.address, 4096).await;
        client.subscribe("all", json!({"kinds": [20_001], "limit": 0})).await;
        // More than the socket's buffers take.
        for number in 0..150 {
            let event = author.event(20_001, &[&["n", &format!("{round} {number}")]], &content);
            assert!(publisher.publish(&event).await.0);
        }
        drop(client);
    }

    // A megabyte waited for each.
    let grown = || child.resident_kib().saturating_sub(before);
    until("memory to be given back", || grown() < 12 * 1024).await;
}
