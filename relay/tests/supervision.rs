//! What becomes of a real relay when one of its tasks panics: the process ends at once where it cannot go on, the task
//! begins again where it can, and a client's own task takes nobody with it. A debug build has a page that injects the
//! panic (`POST /debug/tasks/panic`); a release build does not, so that there is nothing to test there.

#![cfg(debug_assertions)]
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use deploy::postgres::PostgresCluster;
use process::client::{Author, Client, Incoming};
use process::{Relay, STEP_TIMEOUT, Setup, http_get};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The process has half a second to close its connections. An orderly end would take [`ORDERLY_SECONDS`] here.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const ORDERLY_SECONDS: &str = "60";

fn setup(folder: &Path) -> Setup {
    // The panic itself, where it happened, and what the relay says of it.
    ["panicked at", "a test asked for it", "a batch could not be stored"]
        .into_iter()
        .fold(Setup::new(folder), Setup::expect_log)
        .set("timeouts-drain-seconds", ORDERLY_SECONDS)
}

/// Makes one task of this name panic.
fn inject_panic(relay: &Relay, task: &str) {
    let address = relay.admin_address();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    let head = format!("POST /debug/tasks/panic?task={task} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n");
    write!(stream, "{head}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    // A listener that panics gives none.
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 204"), "{answer}");
}

/// What `/debug/tasks` says of one.
fn told(relay: &Relay, task: &str) -> Value {
    let (_, page) = http_get(relay.admin_address(), "/debug/tasks", "*/*");
    serde_json::from_str::<Value>(&page).unwrap()["tasks"][task].take()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    deploy::until(what, STEP_TIMEOUT, async || if is_so() { Ok(()) } else { Err("not yet".to_owned()) }).await.unwrap();
}

/// Reads one sample of `/metrics`.
fn metric(relay: &Relay, series: &str) -> f64 {
    let (_, page) = http_get(relay.admin_address(), "/metrics", "*/*");
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {series}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_ends_at_once_where_it_cannot_go_on() {
    for task in ["listener", "admit", "verify", "write", "follow", "store_write", "checkpoint", "admin"] {
        let folder = tempfile::tempdir().unwrap();
        let mut relay = setup(folder.path()).start();
        assert_eq!(told(&relay, "admit"), json!({"running": 1, "panics": 0, "on_panic": "the process ends"}));
        let (mut client, mut author) = (Client::connect(&relay).await, Author::new());
        client.publish_all(&[author.note(10)]).await;
        let begun = Instant::now();
        inject_panic(&relay, task);
        if ["verify", "store_write"].contains(&task) {
            // They run once there is an event.
            client.send(author.note(10).message).await;
        }

        let status = tokio::task::block_in_place(|| relay.wait());
        let took = begun.elapsed();
        println!("{task}: {took:?}");
        assert_eq!(status.code(), Some(1), "{task}");
        assert!(took < ENDS_WITHIN, "{task}: {took:?}");
        let log = relay.log();
        assert!(log.contains(&format!("relay: the task {task} panicked")), "{log}");
        relay.check_log();
        // Who was connected learns of it, with a close frame where there was time for one.
        while let Incoming::Message(answer) = client.next().await {
            assert!(answer[0] != "OK" || answer[2] == false, "{task}: {answer}");
        }
        // What had its OK is there.
        let relay = setup(folder.path()).start();
        let mut client = Client::connect(&relay).await;
        assert!(!client.stored(json!({"kinds": [1]})).await.is_empty(), "{task}");
        drop(client);
        relay.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_task_panics_takes_nothing_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let relay = setup(folder.path()).start();
    let (mut first, mut second) = (Client::connect(&relay).await, Client::connect(&relay).await);
    for client in [&mut first, &mut second] {
        client.send(json!(["REQ", "live", {"kinds": [1]}]).to_string()).await;
        assert_eq!(client.answer().await, json!(["EOSE", "live"]));
    }
    until("both subscriptions", || metric(&relay, "nostr_subscriptions_active") == 2.0).await;

    inject_panic(&relay, "connection");
    // One of the two; the other one goes on.
    let (_, mut survivor) = tokio::select! {
        end = first.next() => (end, second),
        end = second.next() => (end, first),
    };
    until("the panic", || told(&relay, "connection")["panics"] == 1).await;
    until("one connection", || metric(&relay, "nostr_connections_active") == 1.0).await;
    until("one subscription", || metric(&relay, "nostr_subscriptions_active") == 1.0).await;
    assert_eq!(metric(&relay, "nostr_task_panics_total{task=\"connection\"}"), 1.0);
    let mut author = Author::new();
    assert!(Client::connect(&relay).await.publish(&author.note(10)).await.0);
    assert_eq!(survivor.answer().await[0], "EVENT");
    assert_eq!(http_get(relay.admin_address(), "/ready", "*/*").0, 200);
    drop(survivor);
    relay.stop();
}

/// Injects a panic into each, and waits until it runs again.
async fn begin_again(relay: &Relay, tasks: &[&str]) {
    for task in tasks {
        until(&format!("the first run of {task}"), || told(relay, task)["running"].as_u64() > Some(0)).await;
        let running = told(relay, task)["running"].clone();
        inject_panic(relay, task);
        until(&format!("the panic of {task}"), || told(relay, task)["panics"] == 1).await;
        until(&format!("the next run of {task}"), || told(relay, task)["running"] == running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_keep_nothing_begin_again() {
    let postgres = PostgresCluster::setup().replicas(0).start().await.unwrap();
    let redis = deploy::redis::RedisServer::temporary().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = setup(folder.path())
        .set("database-urls", &postgres.database_urls("postgres")[0])
        .set("redis-url", &redis.url())
        .start();
    let tasks = ["gauges", "server_gauges", "machine_gauges", "heartbeat", "load", "probe", "maintenance"];
    begin_again(&relay, &tasks).await;
    begin_again(&relay, &["bus_listen", "bus_speak", "cache_servers", "cache_link", "cache_write"]).await;
    begin_again(&relay, &["cache_purges", "cache_purge"]).await;

    let (mut client, mut author) = (Client::connect(&relay).await, Author::new());
    assert!(client.publish(&author.note(10)).await.0);
    let before = metric(&relay, "nostr_log_head_position");
    assert!(client.publish(&author.note(10)).await.0);
    until("the gauges", || metric(&relay, "nostr_log_head_position") > before).await;
    relay.stop();
}
