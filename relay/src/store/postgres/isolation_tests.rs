//! A partition without fencing. A proxy in front of the primary stops forwarding, without closing its connections: only
//! one replica still reaches that primary. The other replica is promoted. Then the proxy forwards again, and there are
//! two primaries. Each control ablates one safeguard.
#![allow(clippy::unwrap_used)]

use super::{Condition, Options, PostgresStore};
use crate::config::Redacted;
use crate::store::{Page, Read, SharedLog, Store, StoreError};
use crate::types::safeguard::{Safeguard, without};
use crate::types::{Event, EventId, Filter, Kind, Position, PublicKey, Timestamp, Verified};
use deploy::postgres::PostgresCluster;
use deploy::proxy::Proxy;
use deploy::{STEP_TIMEOUT, until};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const NOW: Timestamp = 1_800_000_000;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest time until a write fails: the two timeouts above, and an allowance for a busy machine.
const BOUND: Duration = Duration::from_secs(6);
/// The longest time after a promotion until writes succeed again.
const BACK: Duration = Duration::from_secs(30);

fn run(safeguard: Option<Safeguard>) -> Result<(), String> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    without(safeguard, || runtime().block_on(isolation()))
}

#[test]
fn a_silent_primary_is_given_up_and_a_superseded_one_is_ignored() {
    run(None).unwrap();
}

#[test]
fn control_without_giving_up_a_write_hangs() {
    assert_eq!(run(Some(Safeguard::GiveUp)).unwrap_err(), "a write to a silent primary hangs");
}

#[test]
fn control_without_the_newest_timeline_the_old_primary_acknowledges() {
    assert_eq!(run(Some(Safeguard::NewestTimeline)).unwrap_err(), "the new primary lacks acknowledged events");
}

#[test]
fn control_without_the_check_for_past_servers_they_are_read() {
    assert_eq!(run(Some(Safeguard::PastServers)).unwrap_err(), "a read is of an epoch that is over");
}

fn note(n: u32) -> Event {
    Event::build(PublicKey::from_bytes([7; 32]), NOW - 1_000 + i64::from(n), Kind(1), &[], &n.to_string(), |_| [7; 64])
}

async fn put(store: &PostgresStore, n: u32) -> Result<EventId, StoreError> {
    let event = note(n);
    let id = event.id();
    store.append(vec![Verified::vouch(event.into())], NOW).await.map(|_| id)
}

async fn read(store: &PostgresStore) -> Result<Page, String> {
    let filter = Filter::default();
    let read = Read {
        filter: &filter,
        limit: 10,
        after: None,
        access: None,
        at_least: Position::default(),
        now: NOW,
        max_text_bytes: usize::MAX,
    };
    let page = timeout(Duration::from_secs(2), store.read(&read)).await;
    page.map_err(|_| "a read hangs")?.map_err(|error| error.to_string())
}

async fn open(urls: impl Iterator<Item = String>) -> PostgresStore {
    let options = Options::new(urls.map(Redacted::new));
    let options = Options { connect_timeout: CONNECT_TIMEOUT, acquire_timeout: ACQUIRE_TIMEOUT, ..options };
    PostgresStore::open(options).await.unwrap()
}

/// Reads that each server has answered, in the order of the URLs.
fn reads(store: &PostgresStore) -> Vec<u64> {
    store.status().iter().map(|node| node.reads).collect()
}

async fn wait(what: &str, reached: impl AsyncFn() -> bool) {
    until(what, STEP_TIMEOUT, async || if reached().await { Ok(()) } else { Err("not yet".to_owned()) }).await.unwrap();
}

async fn isolation() -> Result<(), String> {
    let mut cluster = PostgresCluster::setup().replicas(2).start().await.unwrap();
    let mut lines = Vec::new();
    for server in &cluster.servers {
        lines.push(Proxy::start((Ipv4Addr::LOCALHOST, server.port()).into()).await.unwrap());
    }
    let urls = || lines.iter().map(|line| format!("postgres://postgres@{}/postgres", line.address()));
    // The old primary comes first: a store that takes any primary takes this one.
    let store = open(urls()).await;
    for n in 0..5 {
        put(&store, n).await.unwrap();
    }
    cluster.wait_applied().await.unwrap();
    wait("every server to serve", async || {
        store.status().iter().all(|node| node.condition == Condition::Healthy && node.position == 5)
    })
    .await;
    let before = store.shared_head().await.unwrap().head;

    lines[0].silence(true);
    check_silent_primary(&store).await?;

    cluster.server_mut("replica-1").unwrap().receive(false).await.unwrap();
    cluster.server("replica-1").unwrap().execute("SELECT pg_promote(true, 60)").await.unwrap();
    let promoted = Instant::now();
    wait("writes to come back", async || put(&store, 10).await.is_ok()).await;
    println!("writes were back {:?} after the promotion", promoted.elapsed());
    assert!(promoted.elapsed() < BACK);
    let known = async || store.shared_head().await.is_ok_and(|shared| shared.head.epoch != before.epoch);
    wait("the new epoch", known).await;

    lines[0].silence(false);
    check_returned_primary(&cluster, &store, urls()).await?;
    store.close().await;
    Ok(())
}

/// Writes fail in time, and reads go on at the replicas.
async fn check_silent_primary(store: &PostgresStore) -> Result<(), String> {
    let served = reads(store);
    // The first write goes to a primary that still counts as healthy; the second finds no primary.
    for n in [6, 7] {
        let refused = timeout(BOUND, put(store, n)).await.map_err(|_| "a write to a silent primary hangs")?;
        assert!(matches!(refused, Err(StoreError::Unknown | StoreError::Unreachable(_))), "{refused:?}");
        for _ in 0..4 {
            read(store).await?;
        }
    }
    let now = reads(store);
    assert!(now[0] == served[0] && now[1] > served[1] && now[2] > served[2], "{served:?}, then {now:?}");
    Ok(())
}

/// The old primary takes writes and still has a replica. A store that knows the new primary uses neither.
async fn check_returned_primary(
    cluster: &PostgresCluster,
    store: &PostgresStore,
    urls: impl Iterator<Item = String>,
) -> Result<(), String> {
    let epoch = store.shared_head().await.unwrap().head.epoch;
    let lonely = open([cluster.servers[0].database_url("postgres")].into_iter()).await;
    let mut only_there = Vec::new();
    for n in 100..105 {
        only_there.push(put(&lonely, n).await.unwrap());
    }
    lonely.close().await;
    let follows = cluster.server("replica-2").unwrap();
    wait("the old primary's replica to follow it", async || {
        follows.ask::<i64>("SELECT position FROM head").await.unwrap() >= 10
    })
    .await;
    wait("the old primary to be seen again", async || store.status()[0].condition != Condition::Down).await;

    let served = reads(store);
    let (mut acknowledged, mut stale) = (Vec::new(), 0);
    for n in 200..220 {
        acknowledged.push(put(store, n).await.map_err(|error| error.to_string())?);
        let (known, _) = store.known(&only_there, Position::default()).await.unwrap();
        stale += usize::from(read(store).await?.head.epoch != epoch || known.contains(&true));
    }
    // A store that was opened after the failover, and whose first URL is the old primary's.
    let new = open(urls).await;
    acknowledged.push(put(&new, 220).await.map_err(|error| error.to_string())?);
    new.close().await;
    let mut missing = 0;
    for id in &acknowledged {
        let found = format!("SELECT count(*) FROM event WHERE id = '\\x{}'", id.to_hex());
        missing += 1 - cluster.server("replica-1").unwrap().ask::<i64>(&found).await.unwrap();
    }
    if missing > 0 {
        return Err("the new primary lacks acknowledged events".into());
    }
    if stale > 0 {
        return Err("a read is of an epoch that is over".into());
    }
    let now = reads(store);
    assert_eq!((now[0], now[2]), (served[0], served[2]), "the old primary and its replica answer nothing");
    Ok(())
}
