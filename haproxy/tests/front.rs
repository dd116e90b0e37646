//! Checks the rendered configuration with a real HAProxy.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use haproxy::{ClientAddress, Status, haproxy_cfg};
use kit::{FakeRelay, Front, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn clients_are_spread_and_their_own_words_about_their_address_are_replaced() {
    let (one, two) = (FakeRelay::start("relay-1").await, FakeRelay::start("relay-2").await);
    let front = Front::start(&[&one, &two], |_| {}).await;
    let (mut sockets, counts) = front.spread(10, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [5, 5]);
    for socket in &mut sockets {
        assert!(socket.lives().await);
    }
    let liar = "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n";
    let forwarded = front.try_open(liar).await.unwrap().forwarded;
    assert_eq!(forwarded, " x-forwarded-for: 127.0.0.1 x-forwarded-proto: http");
}

#[tokio::test]
async fn proxy_v2_tells_the_address_before_the_first_byte() {
    let relay = FakeRelay::start_with("relay-1", true).await;
    let front = Front::start(&[&relay], |cluster| cluster.relay.client_address = ClientAddress::ProxyV2).await;
    let forwarded = front.try_open("X-Forwarded-For: 1.2.3.4\r\n").await.unwrap().forwarded;
    assert_eq!(forwarded, "proxy [127, 0, 0, 1] x-forwarded-proto: http");
}

/// The control is the second half: 503 in place of 404 ends the same sockets.
#[tokio::test]
async fn a_404_drains_and_a_503_sends_away() {
    let (one, two) = (FakeRelay::start("relay-1").await, FakeRelay::start("relay-2").await);
    let front = Front::start(&[&one, &two], |_| {}).await;
    let (mut sockets, counts) = front.spread(10, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [5, 5]);

    one.ready_answers(404);
    front.sees("relay-1", Status::Draining).await;
    let (new, counts) = front.spread(10, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [0, 10], "nothing new goes to a relay that drains");
    for socket in &mut sockets {
        assert!(socket.lives().await, "it keeps what it has");
    }
    drop(new);

    one.ready_answers(200);
    front.sees("relay-1", Status::Up).await;
    one.ready_answers(503);
    front.sees("relay-1", Status::Down).await;
    for socket in &mut sockets {
        assert_eq!(socket.lives().await, socket.relay != "relay-1", "control: {}", socket.relay);
    }
}

/// Between a relay's first refusal and the next check HAProxy still takes it for ready.
#[tokio::test]
async fn a_client_that_a_relay_refuses_goes_to_another() {
    let (one, two) = (FakeRelay::start("relay-1").await, FakeRelay::start("relay-2").await);
    let front = Front::start(&[&one, &two], |_| {}).await;
    one.upgrades_answer(503);
    let (_, counts) = front.spread(10, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [0, 10]);

    let config = haproxy_cfg(&front.cluster).unwrap();
    let without = config.lines().filter(|line| !line.contains("retry-on")).collect::<Vec<_>>().join("\n") + "\n";
    front.reload_as(&without).await.unwrap();
    let mut refused = 0;
    for _ in 0..10 {
        refused += usize::from(front.try_open("").await.is_err());
    }
    assert!(refused > 0, "control: without the retry a client sees the refusal");
}

#[tokio::test]
async fn no_client_notices_that_a_relay_has_just_died() {
    let (one, two) = (FakeRelay::start("relay-1").await, FakeRelay::start("relay-2").await);
    let front = Front::start(&[&one, &two], |_| {}).await;
    drop(one);
    let (_, counts) = front.spread(10, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [0, 10]);
    front.sees("relay-1", Status::Down).await;
}

/// With leastconn, a relay with a tenth of the weight gets a tenth of the connections of another one.
#[tokio::test]
async fn a_relay_gets_the_share_that_it_asks_for() {
    let (one, two) = (FakeRelay::start("relay-1").await, FakeRelay::start("relay-2").await);
    let front = Front::start(&[&one, &two], |_| {}).await;
    one.weighs(25);
    until("the weight", async || front.state("relay-1").await.is_some_and(|state| state.weight == 25)).await;
    let (sockets, counts) = front.spread(20, &["relay-1", "relay-2"]).await;
    assert_eq!(counts, [4, 16]);
    drop(sockets);
    one.weighs(100);
    until("the weight", async || front.state("relay-1").await.is_some_and(|state| state.weight == 100)).await;
}

#[tokio::test]
async fn an_address_gets_no_more_connections_than_allowed() {
    let relay = FakeRelay::start("relay-1").await;
    let front = Front::start(&[&relay], |cluster| cluster.front.max_connections_per_address = 5).await;
    let (mut sockets, _) = front.spread(5, &[]).await;
    assert!(front.try_open("").await.is_err());
    assert!(sockets[0].lives().await);
    drop(sockets);
    until("places are free again", async || front.try_open("").await.is_ok()).await;

    let front = Front::start(&[&relay], |cluster| cluster.front.new_connections_per_address_in_10_seconds = 5).await;
    for _ in 0..5 {
        front.open().await;
    }
    assert!(front.try_open("").await.is_err());
    let front = Front::start(&[&relay], |_| {}).await;
    let (_, counts) = front.spread(20, &["relay-1"]).await;
    assert_eq!(counts, [20], "control: without limits everybody comes in");
}

async fn page(front: &Front, path: &str) -> String {
    let mut stream = TcpStream::connect(front.cluster.front.stats_listen).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn statistics_metrics_and_its_own_health_are_served() {
    let relay = FakeRelay::start("relay-1").await;
    let front = Front::start(&[&relay], |_| {}).await;
    let _open = front.open().await;
    assert!(page(&front, "/").await.contains("relay-1"));
    assert!(page(&front, "/healthy").await.contains(" 200 OK"));
    let metrics = page(&front, "/metrics").await;
    assert!(metrics.contains("haproxy_server_current_sessions{proxy=\"relays\",server=\"relay-1\"} 1"), "{metrics}");
}
