//! Connections that are open and warm before the first client asks, on real servers.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::Redacted;
use crate::store::Store;
use crate::store::postgres::{Connections, PostgresStore};
use crate::types::safeguard::{Safeguard, without};
use deploy::postgres::{PostgresCluster, PostgresServer};
use deploy::{STEP_TIMEOUT, until};
use std::collections::BTreeSet;

const LEAST: u32 = 3;

fn options(urls: &[String]) -> Options {
    let few = Connections { min: LEAST, max: 6 };
    let urls = urls.iter().map(Redacted::new);
    Options { primary_connections: few, replica_connections: few, ..Options::new(urls) }
}

/// The server processes of the pool, without and with the mark of a warm connection.
async fn processes(server: &PostgresServer) -> (BTreeSet<i32>, BTreeSet<i32>) {
    let mut connection = server.connect().await.unwrap();
    let of_pool = "SELECT pid, query LIKE '%texts(%' FROM pg_stat_activity WHERE application_name = 'skein'";
    let rows: Vec<(i32, bool)> = sqlx::query_as(of_pool).fetch_all(&mut connection).await.unwrap();
    let with = |wanted| rows.iter().filter(|(_, warm)| *warm == wanted).map(|(pid, _)| *pid).collect();
    (with(false), with(true))
}

/// How many connections were open and warm on the primary and on its replica when the store said so.
async fn warm_when_told(cluster: &PostgresCluster) -> [usize; 2] {
    let store = PostgresStore::open(options(&cluster.database_urls("postgres"))).await.unwrap();
    assert!(store.warmed().await);
    let mut warm = [0; 2];
    for (at, server) in cluster.servers.iter().enumerate() {
        // Another statement on the primary by then has left another mark, where it used a warm connection.
        warm[at] = processes(server).await.1.len();
    }
    store.close().await;
    warm
}

#[test]
fn connections_are_open_and_warm_before_clients_come() {
    // On one thread, the one on which a control ablates the safeguard.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = runtime.block_on(async {
        let cluster = PostgresCluster::setup().replicas(1).start().await.unwrap();
        let store = PostgresStore::open(options(&cluster.database_urls("postgres"))).await.unwrap();
        store.close().await;
        cluster.wait_applied().await.unwrap();
        cluster
    });
    let run = || runtime.block_on(warm_when_told(&cluster));
    let [primary, replica] = run();
    assert_eq!(replica, LEAST as usize);
    // One of them may have had its next statement by now.
    assert!(primary + 1 >= LEAST as usize, "{primary}");
    assert_eq!(without(Some(Safeguard::Warming), run), [0, 0], "control");
}

/// sqlx's own idle timeout replaces the minimum of connections, too, after every quiet period.
#[tokio::test]
async fn what_is_not_needed_is_closed_and_the_least_stay() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    let short = Duration::from_millis(200);
    let options = Options { idle_timeout: short, ..options(&cluster.database_urls("postgres")) };
    let store = PostgresStore::open(options.clone()).await.unwrap();
    assert!(store.warmed().await);
    store.close().await;

    let nodes = Nodes::new(options.clone()).unwrap();
    let node = &nodes.shared.nodes[0];
    let probed = node::ProbeResult { role: Role::Primary, timeline: 1, head: crate::types::Head::default() };
    let pool = node.seen(probed, node::Lag::default(), &options).unwrap();
    node.open(pool.clone()).await;
    assert_eq!(pool.size(), LEAST);
    let least = processes(&cluster.servers[0]).await.1;
    let mut busy = Vec::new();
    while busy.len() < 6 {
        busy.push(pool.acquire().await.unwrap());
    }
    // A connection in use is never closed, however long that takes.
    let begin = Instant::now();
    while begin.elapsed() < short * 3 {
        node.shrink(&options);
        tokio::time::sleep(short / 4).await;
    }
    assert_eq!(pool.size(), 6);
    drop(busy);
    let shrunk = async || {
        node.shrink(&options);
        if pool.size() == LEAST && pool.num_idle() == LEAST as usize { Ok(()) } else { Err(pool.size().to_string()) }
    };
    until("the pool to shrink", STEP_TIMEOUT, shrunk).await.unwrap();
    let left = || async { processes(&cluster.servers[0]).await.1 };
    let stayed = left().await;
    assert_eq!(stayed.len(), least.len());
    let begin = Instant::now();
    while begin.elapsed() < short * 3 {
        node.shrink(&options);
        tokio::time::sleep(short / 4).await;
    }
    assert_eq!(left().await, stayed, "the same ones, not others in their place");
    nodes.close().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_keeps_no_relay_from_starting() {
    let cluster = PostgresCluster::setup().start().await.unwrap();
    // It accepts connections and does nothing else.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut urls = cluster.database_urls("postgres");
    urls.push(format!("postgres://postgres@{}/postgres", deaf.local_addr().unwrap()));
    let store = PostgresStore::open(options(&urls)).await.unwrap();
    let begin = Instant::now();
    store.warmed().await;
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert_eq!(store.status()[0].connections, LEAST, "the other server is used as ever");
    store.close().await;
}
