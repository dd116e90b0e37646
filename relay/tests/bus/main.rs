//! Three instances over one shared log and a real Redis. Redis is killed, stopped, moved, cut from its subscribers, or
//! never runs. Every subscription on every instance gets every event once, in order. Each fault has a control without
//! the shared log, in which the bus alone must lose something.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../kit/author.rs"]
#[allow(dead_code, unreachable_pub)]
mod author;
mod cluster;
mod shared;

use cluster::{Cluster, Report};
use deploy::redis::{RedisCluster, RedisServer, Sentinels};
use deploy::{Home, Signal};
use redis::cmd;
use std::time::{Duration, Instant};

/// The bound of the 99th percentile of live delivery during a fault: twice the 500 ms that the relay promises, for a
/// busy machine.
const LIVE_P99: Duration = Duration::from_millis(1_000);

/// The length of a fault in `make test`; `make soak` takes the full times.
const SHORT: Duration = Duration::from_secs(3);

fn nothing_lost(what: &str, report: &Report) {
    println!("{what}: {report}");
    assert!(report.published > 50, "{report}");
    assert_eq!((report.missing, report.doubled, report.disordered), (0, 0, 0), "{report}");
    assert!(report.p99 < LIVE_P99, "{report}");
}

fn something_lost(what: &str, report: &Report) {
    println!("control, {what}: {report}");
    assert!(report.missing > 0, "without the shared log nothing was missed: {report}");
}

/// Runs one fault with the shared log and once more without.
async fn with_control<F: AsyncFnMut(&mut RedisServer)>(what: &str, mut fault: F) {
    for follows_log in [true, false] {
        let mut server = RedisServer::temporary().await.unwrap();
        let cluster = Cluster::start(3, Some(&server.url()), follows_log).await;
        cluster.wait_until_up().await;
        let report = cluster.publish_during(fault(&mut server)).await;
        match follows_log {
            true => nothing_lost(what, &report),
            false => something_lost(what, &report),
        }
    }
}

async fn killed_for(time: Duration) {
    with_control("killed", async |server| {
        server.kill().await.unwrap();
        tokio::time::sleep(time).await;
        server.start().await.unwrap();
    })
    .await;
}

async fn stopped_for(time: Duration) {
    with_control("stopped", async |server| {
        server.signal(Signal::STOP);
        tokio::time::sleep(time).await;
        server.signal(Signal::CONT);
    })
    .await;
}

/// Disconnects every subscriber of the bus, again after each `every`.
async fn robbed_for(time: Duration, every: Duration) {
    with_control("robbed of its subscribers", async |server| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let kill = cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").to_owned();
            server.ask::<redis::Value>(&kill).await.unwrap();
            tokio::time::sleep(every).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_back() {
    killed_for(SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stopped_and_back() {
    stopped_for(SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_disconnects_its_subscribers() {
    robbed_for(SHORT, Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make soak"]
async fn the_faults_in_full_length() {
    killed_for(Duration::from_secs(30)).await;
    stopped_for(Duration::from_secs(15)).await;
    robbed_for(Duration::from_secs(20), Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_never_there() {
    let port = deploy::free_port().unwrap();
    let url = format!("redis://127.0.0.1:{port}");
    for (url, follows_log) in [(Some(url.as_str()), true), (None, true), (Some(url.as_str()), false)] {
        let cluster = Cluster::start(3, url, follows_log).await;
        let report = cluster.publish_during(tokio::time::sleep(Duration::from_secs(2))).await;
        match follows_log {
            true => nothing_lost("never there", &report),
            false => something_lost("never there", &report),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_fail_over() {
    let mut sentinels = Sentinels::start(Home::temporary().unwrap()).await.unwrap();
    let cluster = Cluster::start(3, Some(&sentinels.url()), true).await;
    cluster.wait_until_up().await;
    let report = cluster
        .publish_during(async {
            let master = sentinels.master().await.unwrap();
            sentinels.servers[master].kill().await.unwrap();
            cluster.wait_until_down().await;
            cluster.wait_until_up().await;
            assert_ne!(sentinels.master().await.unwrap(), master);
        })
        .await;
    nothing_lost("Sentinel failover", &report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_the_cluster_dies() {
    let mut redis = RedisCluster::start(Home::temporary().unwrap()).await.unwrap();
    let cluster = Cluster::start(3, Some(&redis.url()), true).await;
    cluster.wait_until_up().await;
    let report = cluster
        .publish_during(async {
            let carrier = redis.carrier().await.unwrap();
            redis.servers[carrier].kill().await.unwrap();
            cluster.wait_until_down().await;
            cluster.wait_until_up().await;
        })
        .await;
    nothing_lost("a Cluster's master dies", &report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ephemeral_events_come_over_the_bus_once() {
    let server = RedisServer::temporary().await.unwrap();
    let cluster = Cluster::start(2, Some(&server.url()), true).await;
    cluster.wait_until_up().await;
    assert_eq!(cluster.ephemeral().await, [1, 1], "one on the instance that got it and one on the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_without_a_bus_ephemeral_events_stay_where_they_are() {
    let cluster = Cluster::start(2, None, true).await;
    assert_eq!(cluster.ephemeral().await, [1, 0]);
}
