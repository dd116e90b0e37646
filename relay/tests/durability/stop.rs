//! Signals: a drain, an immediate end, a reload.

use crate::process::client::{Author, Client, Incoming, next};
use crate::process::{STEP_TIMEOUT, Setup};
use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// RFC 6455's registry: "Service Restart", come back soon.
const SERVICE_RESTART: u16 = 1012;
const DRAIN: Duration = Duration::from_secs(2);
/// The allowance for a busy machine.
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_says_goodbye_and_keeps_every_promise() {
    drains_at(Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_says_goodbye_and_keeps_every_promise() {
    drains_at(Signal::INT).await;
}

async fn drains_at(signal: Signal) {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Setup::new(folder.path()).set("timeouts-drain-seconds", &DRAIN.as_secs().to_string()).start();
    let mut idle = JoinSet::new();
    for _ in 0..5 {
        let mut client = Client::connect(&relay).await;
        client.stored(json!({ "kinds": [1] })).await;
        idle.spawn(async move {
            loop {
                match client.next().await {
                    Incoming::Message(_) => {}
                    end => return end,
                }
            }
        });
    }
    let notes = Author::new().notes(3_000, 100);
    let (mut sink, mut stream) = Client::connect(&relay).await.socket.split();
    let messages: Vec<_> = notes.iter().map(|note| note.message.clone()).collect();
    // Keeps publishing until the connection ends.
    let publisher = tokio::spawn(async move {
        for message in messages {
            if sink.send(Message::text(message)).await.is_err() {
                break;
            }
        }
    });

    let mut acknowledged = Vec::new();
    let mut signalled = None;
    let goodbye = loop {
        match next(&mut stream).await {
            Incoming::Message(message) if message[0] == "OK" => {
                // Towards the end events may be refused with a reason; none may be dropped without one.
                if message[2] == true {
                    acknowledged.push(message[1].as_str().unwrap().to_owned());
                }
                if acknowledged.len() == 200 {
                    signalled.get_or_insert_with(|| {
                        relay.signal(signal);
                        Instant::now()
                    });
                }
            }
            Incoming::Message(_) => {}
            end => break end,
        }
    };
    assert!(matches!(goodbye, Incoming::Goodbye(Some(SERVICE_RESTART))), "{goodbye:?} to the one that published");
    publisher.await.unwrap();
    // Answer the Close frame: else the relay would wait for the answer.
    drop(stream);
    for end in idle.join_all().await {
        assert!(matches!(end, Incoming::Goodbye(Some(SERVICE_RESTART))), "{end:?} to an idle one");
    }
    let status = relay.wait();
    let took = signalled.unwrap().elapsed();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < DRAIN + SLACK, "the end took {took:?}");
    relay.check_log();

    let relay = Setup::new(folder.path()).start();
    let stored = Client::connect(&relay).await.stored_of(&notes).await;
    let lost = acknowledged.iter().filter(|id| !stored.contains_key(*id)).count();
    println!("{} OK, {} stored, {lost} lost, ended in {took:?}", acknowledged.len(), stored.len());
    assert_eq!(lost, 0);
    relay.stop();
}

/// The relay waits for a database that cannot be reached, and still takes signals.
#[test]
fn a_relay_that_is_still_starting_stops_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        // Accepts connections, and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://relay@{}/relay", silent.local_addr().unwrap());
        let mut relay = Setup::new(folder.path()).set("database-urls", &url).spawn();
        relay.wait_for_log("Skein is starting");
        relay.signal(signal);
        let asked = Instant::now();
        assert_eq!(relay.wait().code(), Some(0));
        // It would give up by itself after 20 s.
        assert!(asked.elapsed() < Duration::from_secs(2), "it took {:?}", asked.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Setup::new(folder.path()).set("timeouts-drain-seconds", "600").start();
    // More than one, so that some would be closed late.
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&relay).await);
    }
    relay.signal(Signal::INT);
    relay.wait_for_log("connections are asked to leave");
    relay.signal(Signal::INT);
    let asked = Instant::now();
    assert_eq!(relay.wait().code(), Some(1));
    assert!(asked.elapsed() < STEP_TIMEOUT / 2, "it took {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_changes_what_can_change_and_names_what_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("relay.toml");
    let write = |subscriptions: u32, bytes: u32, age: &str| {
        let text = format!("[limits]\nmax_subscriptions = {subscriptions}\n{age}\n[queues]\noutbox_bytes = {bytes}\n");
        std::fs::write(&config, text).unwrap();
    };
    write(7, 1_000_000, "");
    let relay = Setup::new(folder.path()).set("config", "relay.toml").expect_log("settings stay as they were").start();
    assert_eq!(relay.information()["limitation"]["max_subscriptions"], 7);
    let mut client = Client::connect(&relay).await;

    write(2, 2_000_000, "");
    relay.signal(Signal::HUP);
    let line = relay.wait_for_log("settings were read again");
    assert!(line.contains("limits.max_subscriptions"), "{line}");
    let needs_restart = line.split("needs_restart=").nth(1).unwrap_or_default();
    assert!(needs_restart.contains("queues.outbox_bytes"), "{line}");
    assert_eq!(relay.information()["limitation"]["max_subscriptions"], 2);
    // The limit holds for a connection from before, too.
    for subscription in ["a", "b", "c"] {
        client.send(json!(["REQ", subscription, { "kinds": [1] }]).to_string()).await;
        let answer = client.answer().await;
        assert_eq!(answer[0], if subscription == "c" { "CLOSED" } else { "EOSE" }, "{answer}");
    }

    write(3, 2_000_000, "max_subscription = 4");
    relay.signal(Signal::HUP);
    relay.wait_for_log("settings stay as they were");
    assert_eq!(relay.information()["limitation"]["max_subscriptions"], 2);
    relay.stop();
}
