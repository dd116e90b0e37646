//! Handshakes that violate the protocol, and the limits before a client's first message.

use crate::kit::{Authority, Client, Tls, connector, handshake, metric, until, wss_address};
use crate::process::{Relay, STEP_TIMEOUT, Setup};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls;

fn with_file(folder: &Path, authority: &Authority) -> Setup {
    authority.issue(&["a.example"]).write(folder, "a");
    let path = |name: &str| folder.join(name).display().to_string();
    Setup::new(folder)
        .set("tls-listen", "127.0.0.1:0")
        .set("tls-certificate", &path("a.crt"))
        .set("tls-key", &path("a.key"))
}

/// Everything that comes until the other side closes.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Reset or closed: both are an end.
    let _ = timeout(STEP_TIMEOUT, stream.read_to_end(&mut bytes)).await.expect("the relay keeps the connection");
    bytes
}

/// The first message of a client.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let config = connector(&authority.pem, &Tls::default()).config().clone();
    let name = "a.example".try_into().unwrap();
    let mut connection = rustls::ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_the_wrong_protocol_is_told() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let relay = with_file(folder.path(), &authority).start();

    // First: an address gets one line a second.
    let error = handshake(&connector(&authority.pem, &Tls::default()), relay.address(), "a.example").await;
    assert!(error.is_err());
    relay.wait_for_log("refused connection address=127.0.0.1 reason=tls_on_plain_port");

    let mut plain = TcpStream::connect(wss_address(&relay)).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(read_all(&mut plain).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("this port speaks TLS: connect with wss://"), "{answer}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
    drop(plain);
    until("it is counted", || metric(&relay, "nostr_tls_handshakes_total{result=\"plain_http\"}") == 1.0).await;

    let mut noise = TcpStream::connect(wss_address(&relay)).await.unwrap();
    noise.write_all(&[0; 64]).await.unwrap();
    read_all(&mut noise).await;
    until("noise is counted", || metric(&relay, "nostr_tls_handshakes_total{result=\"failed\"}") == 1.0).await;
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hello_byte_by_byte_is_read_and_an_endless_one_is_not() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let relay = with_file(folder.path(), &authority).set("tls-handshake-timeout-seconds", "2").start();
    let address = wss_address(&relay);

    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.set_nodelay(true).unwrap();
    for byte in client_hello(&authority) {
        slow.write_all(&[byte]).await.unwrap();
    }
    let mut first = [0; 5];
    timeout(STEP_TIMEOUT, slow.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(first[0], 0x16, "a ServerHello comes");

    // A record of 16 KB that never ends, and one that says it is larger than any may be.
    let mut endless = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    endless.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xf0]).await.unwrap();
    for _ in 0..1000 {
        endless.write_all(&[0]).await.unwrap();
    }
    read_all(&mut endless).await;
    assert!((1..30).contains(&begun.elapsed().as_secs()), "after the time that it has: {:?}", begun.elapsed());
    let mut large = TcpStream::connect(address).await.unwrap();
    large.write_all(&[0x16, 3, 1, 0xff, 0xff, 1]).await.unwrap();
    read_all(&mut large).await;
    // Nothing at all.
    read_all(&mut TcpStream::connect(address).await.unwrap()).await;
    until("each is counted", || {
        metric(&relay, "nostr_tls_handshakes_total{result=\"late\"}") == 3.0
            && metric(&relay, "nostr_tls_handshakes_total{result=\"failed\"}") == 1.0
    })
    .await;
    relay.stop();
}

/// Opens `count` connections and sends the first part of a ClientHello on each.
async fn half_open(address: SocketAddr, count: usize, hello: &[u8]) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = timeout(STEP_TIMEOUT, TcpStream::connect(address)).await.unwrap().unwrap();
        stream.write_all(&hello[..hello.len() / 2]).await.unwrap();
        streams.push(stream);
    }
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_half_open_handshakes_keep_nobody_out() {
    const HALF_OPEN: usize = 5_000;
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let relay = with_file(folder.path(), &authority).set("tls-handshake-timeout-seconds", "60").start();
    let (address, trusting) = (wss_address(&relay), connector(&authority.pem, &Tls::default()));
    let mut honest = Vec::new();
    for _ in 0..20 {
        honest.push(Client::connect(&trusting, address, "a.example").await);
    }

    let held = half_open(address, HALF_OPEN, &client_hello(&authority)).await;
    until("all of them are under way", || {
        metric(&relay, "nostr_connections_active") >= (HALF_OPEN + honest.len()) as f64
    })
    .await;
    for client in &mut honest {
        client.assert_served().await;
    }

    for _ in 0..20 {
        Client::connect(&trusting, address, "a.example").await.assert_served().await;
    }
    drop(held);
    until("they are gone", || metric(&relay, "nostr_connections_active") <= honest.len() as f64).await;
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_beyond_the_bound_are_refused_until_others_end() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let setup = with_file(folder.path(), &authority).set("tls-max-handshakes", "10");
    let relay = setup.set("tls-handshake-timeout-seconds", "60").start();
    let (address, trusting) = (wss_address(&relay), connector(&authority.pem, &Tls::default()));
    let mut connected = Client::connect(&trusting, address, "a.example").await;
    let held = half_open(address, 10, &client_hello(&authority)).await;
    until("all places are taken", || metric(&relay, "nostr_connections_active") == 11.0).await;
    assert!(handshake(&trusting, address, "a.example").await.is_err());
    assert_eq!(metric(&relay, "nostr_tls_handshakes_total{result=\"refused\"}"), 1.0);
    connected.assert_served().await;
    drop(held);
    until("the places are free", || metric(&relay, "nostr_connections_active") == 1.0).await;
    Client::connect(&trusting, address, "a.example").await.assert_served().await;
    relay.stop();
}

/// A connection in the middle of its handshake counts for its address, behind a proxy too.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_limited_before_the_handshake_also_behind_a_proxy() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let setup = with_file(folder.path(), &authority).set("limits-max-connections-per-address", "2");
    let setup = setup.set("proxy-trusted-networks", "127.0.0.0/8").turn("proxy-proxy-protocol");
    let setup = setup.set("public-url", "wss://a.example");
    let relay = setup.set("tls-handshake-timeout-seconds", "60").start();
    let address = wss_address(&relay);
    let header = |last: u8| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        bytes.extend([192, 0, 2, last, 127, 0, 0, 1, 0x12, 0x34, 1, 0xbb]);
        bytes
    };
    let connect = |last: u8| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&header(last)).await.unwrap();
        stream
    };
    let _first = connect(7).await;
    let _second = connect(7).await;
    until("both are under way", || metric(&relay, "nostr_connections_active") == 2.0).await;
    read_all(&mut connect(7).await).await;
    relay.wait_for_log("refused connection address=192.0.2.7 reason=address_full");

    // Another address has its own limit, and its own certificate by name.
    let stream = connect(8).await;
    let name = "a.example".try_into().unwrap();
    let tls = connector(&authority.pem, &Tls::default()).connect(name, stream);
    let stream = timeout(STEP_TIMEOUT, tls).await.unwrap().unwrap();
    let (socket, _) = tokio_tungstenite::client_async("wss://a.example/", stream).await.unwrap();
    Client(socket).next().await;
    // A connection without the header is refused.
    assert!(handshake(&connector(&authority.pem, &Tls::default()), address, "a.example").await.is_err());
    relay.wait_for_log("reason=proxy_header");
    relay.stop();
}

/// A client that reads nothing is closed after its time, and does not keep its memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_closed() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let relay = with_file(folder.path(), &authority).set("timeouts-write-stall-seconds", "3").start();
    let (address, trusting) = (wss_address(&relay), connector(&authority.pem, &Tls::default()));
    fill(&relay, &trusting).await;
    let ask = serde_json::json!(["REQ", "all", {"kinds": [1]}]);

    let mut silent = Client::connect(&trusting, address, "a.example").await;
    silent.send(&ask).await;
    until("the silent one is closed", || {
        metric(&relay, "nostr_connections_closed_total{reason=\"write_stall\"}") == 1.0
    })
    .await;

    relay.stop();
}

/// Publishes 300 notes of 100 KB: more than the kernel's buffers take.
async fn fill(relay: &Relay, trusting: &tokio_rustls::TlsConnector) {
    let mut author = crate::process::client::Author::new();
    let mut client = Client::connect(trusting, wss_address(relay), "a.example").await;
    use futures_util::SinkExt;
    for note in author.notes(300, 100_000) {
        client.0.send(tokio_tungstenite::tungstenite::Message::text(note.message.clone())).await.unwrap();
        let answer = client.next().await;
        assert_eq!((&answer[0], &answer[2]), (&"OK".into(), &true.into()), "{answer}");
    }
}

/// An idle connection over wss holds a session and one small read buffer; the buffers of its messages are freed.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_over_wss_is_small() {
    const CONNECTIONS: usize = 500;
    const MAX_KIB: usize = 32;
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let relay = with_file(folder.path(), &authority).start();
    let (address, trusting) = (wss_address(&relay), connector(&authority.pem, &Tls::default()));

    // The first connections allocate memory for all, which must not count.
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(Client::connect(&trusting, address, "a.example").await);
    }
    let before = resident_kib(relay.pid());
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(&trusting, address, "a.example").await);
    }

    let each = resident_kib(relay.pid()).saturating_sub(before) as f64 / CONNECTIONS as f64;
    println!("an idle connection over wss: {each:.1} KiB");
    assert!(each < MAX_KIB as f64, "{each:.1} KiB each");
    drop(clients);
    relay.stop();
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
