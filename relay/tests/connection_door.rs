//! Admission: limits on connections, proxies, and a listener that survives an overload.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use futures_util::StreamExt;
use futures_util::stream;
use kit::raw;
use kit::{Child, Client, Relay, Setup, patiently};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;

/// Connects; returns the client, or the status of the refusal.
async fn try_connect(address: SocketAddr, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
    let stream = TcpStream::connect(address).await.unwrap();
    match Client::request(stream, address, headers).await {
        Ok(client) => Ok(client),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("neither served nor refused: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_connections_than_allowed_however_many_try() {
    const MAX: usize = 100;
    let relay = Relay::with(|setup| setup.settings.max_connections = MAX).await;
    let address = relay.address;
    let attempts = stream::iter(0..3_000).map(|_| tokio::spawn(async move { try_connect(address, &[]).await }));
    let results: Vec<_> = attempts.buffer_unordered(50).map(Result::unwrap).collect().await;
    let (served, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(served.len(), MAX);
    assert!(refused.iter().all(|result| matches!(result, Err(503))));
    let answer = raw::http(address, &raw::get("/", raw::UPGRADE)).await;
    assert!(raw::status(&answer) == 503 && answer.contains("retry-after: "), "{answer}");

    // All slots are free again once their connections have ended.
    let mut served: Vec<_> = served.into_iter().map(Result::unwrap).collect();
    served[0].assert_served().await;
    drop(served);
    let mut again = Vec::new();
    while again.len() < MAX {
        if let Ok(client) = patiently("a free place", try_connect(address, &[])).await {
            again.push(client);
        }
    }
    assert_eq!(try_connect(address, &[]).await.err(), Some(503));
    again[MAX - 1].assert_served().await;
}

#[tokio::test]
async fn each_address_has_its_own_limit() {
    let trusted = |setup: &mut Setup| {
        setup.settings.max_connections_per_address = 2;
        setup.settings.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let relay = Relay::with(trusted).await;
    let from = async |address| try_connect(relay.address, &[("x-forwarded-for", address)]).await;
    let mut held = Vec::new();
    for address in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"] {
        held.push(from(address).await.unwrap());
    }
    assert_eq!(from("192.0.2.1").await.err(), Some(429));
    assert_eq!(from("203.0.113.9, 192.0.2.1").await.err(), Some(429), "the rightmost stranger counts");
    assert_eq!(from("2001:db8::3").await.err(), Some(429), "one /64, one client");
    held.push(from("192.0.2.2").await.unwrap());

    // Without trust the header changes nothing: all come from 127.0.0.1, and the third from one address is too many.
    let relay = Relay::with(|setup| setup.settings.max_connections_per_address = 2).await;
    let stranger = async |address| try_connect(relay.address, &[("x-forwarded-for", address)]).await;
    held.push(stranger("192.0.2.1").await.unwrap());
    held.push(stranger("192.0.2.2").await.unwrap());
    assert_eq!(stranger("192.0.2.3").await.err(), Some(429));
}

fn proxy_header(command: u8, source: [u8; 4]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, 0x11, 0, 12]);
    bytes.extend(source);
    bytes.extend([10, 0, 0, 1, 0x1f, 0x90, 0, 80]);
    bytes
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let relay = Relay::with(|setup| {
        setup.settings.max_connections_per_address = 1;
        setup.settings.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
        setup.settings.proxy_protocol = true;
    })
    .await;

    let connect = async |header: &[u8]| {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        stream.write_all(header).await.unwrap();
        Client::request(stream, relay.address, &[]).await
    };

    let mut ann = connect(&proxy_header(0x21, [192, 0, 2, 1])).await.unwrap();
    let mut bob = connect(&proxy_header(0x21, [192, 0, 2, 2])).await.unwrap();
    ann.assert_served().await;
    bob.assert_served().await;
    assert!(connect(&proxy_header(0x21, [192, 0, 2, 1])).await.is_err(), "a second one of the same address");
    for (what, header) in [("no header", Vec::new()), ("nonsense", proxy_header(0x2f, [192, 0, 2, 3]))] {
        assert!(connect(&header).await.is_err(), "{what}");
    }

    // The proxy's own health check.
    connect(&proxy_header(0x20, [0; 4])).await.unwrap().assert_served().await;
    // From any other address the header would be a forgery.
    relay.change(|settings| settings.trusted_networks.clear());
    assert!(connect(&proxy_header(0x21, [192, 0, 2, 4])).await.is_err());
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let relay = Relay::with(|setup| {
        setup.settings.handshake_timeout = Duration::from_millis(300);
        setup.settings.header_timeout = Duration::from_millis(300);
    })
    .await;
    for beginning in ["", "GET / HTTP/1.1\r\nHost: relay.exa"] {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The relay may close with or without an answer.
        let _ = patiently("the relay to hang up", stream.read_to_end(&mut answer)).await;
    }
    relay.connect().await.assert_served().await;
}

#[tokio::test]
#[ignore = "what other tests start as a process of its own"]
async fn child() {
    kit::child(|_| {}).await;
}

#[tokio::test]
async fn running_out_of_descriptors_is_survived() {
    let child = Child::start(50).await;
    let mut held = Vec::new();
    // More connections than the child has descriptors for: some are served, the rest wait in the kernel.
    for _ in 0..80 {
        let mut stream = TcpStream::connect(child.address).await.unwrap();
        stream.write_all(raw::get("/", raw::UPGRADE).as_bytes()).await.unwrap();
        held.push(stream);
    }

    let mut byte = [0];
    patiently("the first to be served", held[0].read_exact(&mut byte)).await.unwrap();
    let unserved = tokio::time::timeout(Duration::from_millis(300), held[79].read_exact(&mut byte)).await;
    assert!(unserved.is_err(), "control: the descriptors have run out");
    drop(held.drain(..60));
    patiently("the last to be served", held[19].read_exact(&mut byte)).await.unwrap();
    drop(held);
    let mut client = Client::connect(child.address).await;
    client.assert_served().await;

    // The listener has not spun meanwhile.
    let worked = child.processor_time();
    assert!(worked < Duration::from_secs(1), "{worked:?} of processor time");
}
