//! Checks the faults of a network, and Redis with Sentinels and as a Cluster.

#![allow(missing_docs, clippy::unwrap_used)]

use deploy::proxy::Proxy;
use deploy::redis::{RedisCluster, Sentinels};
use deploy::{Home, STEP_TIMEOUT, until};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A proxy in front of an echo server, and a connection through it.
async fn echo() -> (Proxy, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, stream)
}

/// The round-trip time of some bytes.
async fn round_trip(stream: &mut TcpStream, bytes: usize) -> Duration {
    let begin = Instant::now();
    stream.write_all(&vec![7; bytes]).await.unwrap();
    let mut back = vec![0; bytes];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, vec![7; bytes]);
    begin.elapsed()
}

#[tokio::test]
async fn a_line_is_slow_narrow_silent_or_cut_when_told_so() {
    let (proxy, mut stream) = echo().await;
    assert!(round_trip(&mut stream, 1000).await < Duration::from_millis(200), "a perfect line");

    proxy.delay(Duration::from_millis(200), Duration::from_millis(50));
    let slow = round_trip(&mut stream, 1000).await;
    assert!(slow >= Duration::from_millis(300), "{slow:?}");
    proxy.delay(Duration::ZERO, Duration::ZERO);

    proxy.change(|line| line.bytes_per_second = Some(10_000));
    let narrow = round_trip(&mut stream, 5000).await;
    assert!(narrow >= Duration::from_millis(400), "{narrow:?}");
    proxy.change(|line| line.bytes_per_second = None);

    // A silence loses no bytes.
    proxy.silence(true);
    stream.write_all(b"late").await.unwrap();
    let mut back = [0; 4];
    let early = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut back)).await;
    assert!(early.is_err(), "something passed");
    proxy.silence(false);
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"late");

    proxy.cut();
    assert_eq!(stream.read(&mut back).await.unwrap_or(0), 0);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut stream, 10).await;

    proxy.change(|line| line.refuse = true);
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(refused.read(&mut back).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn sentinels_replace_a_dead_master() {
    let mut redis = Sentinels::start(Home::temporary().unwrap()).await.unwrap();
    assert_eq!(redis.master().await.unwrap(), 0);
    redis.servers[0].kill().await.unwrap();
    until("another master", STEP_TIMEOUT, async || match redis.master().await {
        Ok(1) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_cluster_replaces_a_dead_master() {
    let mut redis = RedisCluster::start(Home::temporary().unwrap()).await.unwrap();
    let before = redis.masters().await.unwrap();
    redis.servers[before[0]].kill().await.unwrap();
    redis.wait_whole().await.unwrap();
    let after = redis.masters().await.unwrap();
    assert_eq!(after.len(), 3);
    assert!(after.iter().any(|master| !before.contains(master)), "{before:?} {after:?}");
}
