//! Changes while clients stay connected: relays, certificates, the configuration.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use haproxy::{RuntimeError, Status, Tls, process::ProcessError};
use kit::{Certificate, FakeRelay, Front, Socket, free_address, handshake};
use std::time::Duration;

#[tokio::test]
async fn a_relay_added_at_run_time_gets_clients_and_a_removed_one_is_gone() {
    let (one, two) = (FakeRelay::start("relay-1").await, FakeRelay::start("relay-2").await);
    let front = Front::start(&[&one], |_| {}).await;
    let (mut old, counts) = front.spread(4, &["relay-1"]).await;
    assert_eq!(counts, [4]);

    let server = &front.cluster.servers_of(&two.instance)[0];
    front.runtime.add(server).await.unwrap();
    front.sees("relay-2", Status::Up).await;
    let (mut new, counts) = front.spread(4, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [0, 4], "leastconn: until it is level");
    assert!(matches!(front.runtime.add(server).await, Err(RuntimeError::Refused { .. })), "it is there already");

    let busy = front.runtime.remove("relay-1", Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(busy, RuntimeError::Busy { connections: 4, .. }), "{busy}");
    assert!(old[0].lives().await, "who has a connection keeps it");
    let (_, counts) = front.spread(2, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [0, 2]);
    front.runtime.disconnect("relay-1").await.unwrap();
    front.runtime.remove("relay-1", kit::STEP_TIMEOUT).await.unwrap();
    assert_eq!(front.state("relay-1").await, None);
    assert!(!old[0].lives().await && new[0].lives().await);
}

#[tokio::test]
async fn an_operator_drains_a_relay_and_takes_it_back() {
    let (one, two) = (FakeRelay::start("relay-1").await, FakeRelay::start("relay-2").await);
    let front = Front::start(&[&one, &two], |_| {}).await;
    let (mut sockets, _) = front.spread(4, &[]).await;
    front.runtime.drain("relay-1").await.unwrap();
    front.sees("relay-1", Status::Draining).await;
    let (_, counts) = front.spread(4, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [0, 4]);
    for socket in &mut sockets {
        assert!(socket.lives().await);
    }
    front.runtime.ready("relay-1").await.unwrap();
    front.sees("relay-1", Status::Up).await;
    assert!(matches!(front.runtime.drain("relay-9").await, Err(RuntimeError::Refused { .. })));
}

#[tokio::test]
async fn a_reload_keeps_sockets_and_states_and_takes_what_is_new() {
    let (one, two) = (FakeRelay::start("relay-1").await, FakeRelay::start("relay-2").await);
    let mut front = Front::start(&[&one], |_| {}).await;
    let mut before = front.open().await;
    front.runtime.drain("relay-1").await.unwrap();
    front.sees("relay-1", Status::Draining).await;

    front.cluster.instances.push(two.instance.clone());
    front.reload().await.unwrap();
    front.sees("relay-2", Status::Up).await;
    assert_eq!(front.state("relay-1").await.unwrap().status, Status::Draining, "the new process knows the old states");
    let (_, counts) = front.spread(4, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [0, 4]);
    assert!(before.lives().await, "the old process keeps its clients");

    let refused = front.reload_as("nonsense\n").await.unwrap_err();
    assert!(matches!(refused, ProcessError::Refused { .. }), "{refused}");
    assert!(before.lives().await && front.open().await.lives().await, "and nothing has changed");
}

#[tokio::test]
async fn ten_reloads_refuse_nobody() {
    let relay = FakeRelay::start("relay-1").await;
    let front = Front::start(&[&relay], |_| {}).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let clients = async {
            let mut came = Vec::new();
            for _ in 0..20 {
                came.push(front.open().await);
            }
            came
        };
        let (reloaded, came) = tokio::join!(front.reload(), clients);
        reloaded.unwrap();
        sockets.extend(came);
    }

    for socket in &mut sockets {
        assert!(socket.lives().await);
    }
}

#[tokio::test]
async fn wss_speaks_http_1_alone_and_its_certificate_is_replaced_while_clients_stay() {
    let relay = FakeRelay::start("relay-1").await;
    let (old, new) = (Certificate::new(), Certificate::new());
    let (listen, files) = (free_address(), tempfile::tempdir().unwrap());
    let certificate = files.path().join("relay.pem");
    std::fs::write(&certificate, &old.pem).unwrap();
    let front = Front::start(&[&relay], |cluster| {
        let tls = Tls { listen: vec![listen], certificate: certificate.clone(), sessions: 1000, session_seconds: 300 };
        cluster.front.tls = Some(tls);
    })
    .await;

    let stream = handshake(listen, &old, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]), "never h2");
    let mut before = Socket::open(stream, "").await.unwrap();
    assert_eq!(before.forwarded, " x-forwarded-for: 127.0.0.1 x-forwarded-proto: https");
    assert!(handshake(listen, &new, &[]).await.is_err(), "control: not yet");

    front.runtime.replace_certificate(&certificate, &new.pem).await.unwrap();
    let mut after = Socket::open(handshake(listen, &new, &[]).await.unwrap(), "").await.unwrap();
    assert!(handshake(listen, &old, &[]).await.is_err(), "not any more");
    assert!(before.lives().await && after.lives().await);

    let refused = front.runtime.replace_certificate(&certificate, "nonsense").await.unwrap_err();
    assert!(matches!(refused, RuntimeError::Refused { .. }), "{refused}");
    assert!(handshake(listen, &new, &[]).await.is_ok());
}
