//! The layer against real Redis servers. Where only a control can show that a safeguard does something, the control
//! runs here too, with the safeguard ablated.

use super::*;
use crate::cache::{CanonicalQuery, Count, ReaderClass, Snapshot};
use crate::types::safeguard::without;
use crate::types::{Epoch, Event, Filter, Head, Kind, Position, PrivateKinds, PublicKey, Row};
use deploy::redis::{RedisCluster, RedisServer};
use deploy::{Home, STEP_TIMEOUT, Signal, until};

mod miss;

/// A timeout for tests that are not about it: other tests keep this machine busy.
const PATIENT: Duration = Duration::from_millis(500);
const EPOCH: Epoch = Epoch(7);

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn key(author: u8) -> FilterKey {
    let authors = Some([PublicKey::from_bytes([author; 32])].into());
    FilterKey { query: CanonicalQuery::Rows(Filter { authors, ..Filter::default() }), reader: ReaderClass::Everyone }
}

fn rows(entry: Snapshot) -> Answer {
    Answer::Rows(Arc::new(entry))
}

fn entry(epoch: Epoch, position: u64) -> Snapshot {
    let event = |created_at| {
        let author = PublicKey::from_bytes([1; 32]);
        Row::from(&Event::build(author, created_at, Kind(1), &[], &format!("at {position}"), |_| [3; 64]))
    };
    let rows = vec![event(2_000), event(1_000)];
    Snapshot {
        head: Head { epoch, position: Position(position) },
        limit: 10,
        rows: rows.into(),
        complete: false,
        read_at: 0,
    }
}

fn settings(patience: Duration) -> SharedSettings {
    let (prefix, lifetime, tasks) = ("test".to_owned(), Duration::from_secs(60), Tasks::detached());
    SharedSettings { prefix, patience, lifetime, keeps: true, tasks }
}

/// A layer that has found all of its servers.
async fn layer(url: &str, patience: Duration) -> (Arc<RedisLayer>, mpsc::Receiver<Purge>) {
    let (layer, purges) = RedisLayer::start(RedisAddress::parse(url).unwrap(), settings(patience));
    up(&layer).await;
    (layer, purges)
}

async fn up(layer: &RedisLayer) {
    until("the layer to be up", STEP_TIMEOUT, async || match status(layer) {
        SharedStatus { servers, servers_up, .. } if servers > 0 && servers_up == servers => Ok(()),
        status => Err(format!("{status:?}")),
    })
    .await
    .unwrap();
}

/// Puts an entry and waits until the server has it, or has refused it. True: it was written.
async fn put(layer: &RedisLayer, key: &FilterKey, entry: Snapshot) -> bool {
    put_answer(layer, key, rows(entry)).await
}

async fn put_answer(layer: &RedisLayer, key: &FilterKey, answer: Answer) -> bool {
    put_at(layer, key, answer, Miss::default()).await
}

async fn put_at(layer: &RedisLayer, key: &FilterKey, answer: Answer, miss: Miss) -> bool {
    let before = status(layer);
    layer.put(key, answer, miss);
    until("the entry to be handed over", STEP_TIMEOUT, async || {
        let now = status(layer);
        let done = now.written + now.not_newer + now.not_taken + now.too_large;
        let before = before.written + before.not_newer + before.not_taken + before.too_large;
        if done > before { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await
    .unwrap();
    status(layer).written > before.written
}

async fn get(layer: &RedisLayer, key: &FilterKey) -> Option<Snapshot> {
    match layer.get(key, &|_| true).await.ok()? {
        Answer::Rows(entry) => Some(Arc::unwrap_or_clone(entry)),
        Answer::Count(count) => panic!("{count:?}"),
    }
}

fn status(layer: &RedisLayer) -> SharedStatus {
    layer.status().unwrap()
}

fn percentile(mut took: Vec<Duration>, percent: usize) -> Duration {
    took.sort();
    took[(took.len() * percent / 100).min(took.len() - 1)]
}

#[test]
fn another_instance_gets_what_one_has_put() {
    block_on(async {
        let server = RedisServer::temporary().await.unwrap();
        let (one, _purges) = layer(&server.url(), PATIENT).await;
        let (other, _purges) = layer(&server.url(), PATIENT).await;
        assert_eq!(get(&other, &key(1)).await, None);
        assert!(put(&one, &key(1), entry(EPOCH, 5)).await);
        assert_eq!(get(&other, &key(1)).await, Some(entry(EPOCH, 5)));
        assert_eq!(get(&other, &key(2)).await, None, "another filter");
        let nobody = FilterKey { reader: ReaderClass::Unauthenticated(PrivateKinds::default()), ..key(1) };
        assert_eq!(get(&other, &nobody).await, None, "other readers");
        assert_eq!(other.get(&key(1), &|answer| answer.head().position > Position(5)).await.ok(), None, "not usable");
        let head = Head { epoch: EPOCH, position: Position(5) };
        let count = |number| Answer::Count(Count { head, number, counted_at: 1_000, until: Some(2_000) });
        let counted = FilterKey { query: CanonicalQuery::Count(key(1).filters().into()), ..key(1) };
        assert!(put_answer(&one, &counted, count(7)).await);
        assert!(!put_answer(&one, &counted, count(8)).await, "as of the same head there is but one");
        assert_eq!(other.get(&counted, &|_| true).await, Ok(count(7)));
        let status = self::status(&other);
        assert_eq!((status.hits, status.unusable), (2, 1), "{status:?}");
        let names: Vec<String> = server.ask(redis::cmd("KEYS").arg("*")).await.unwrap();
        assert!(names.iter().all(|name| name.starts_with("test:cache:{")), "{names:?}");
        for name in names {
            let left: i64 = server.ask(redis::cmd("PTTL").arg(&name)).await.unwrap();
            assert!((1..=60_000).contains(&left), "{name} stays for {left} ms");
        }
    });
}

/// Writers race with entries of rising positions; at the end, and at every look between, none has gone back.
async fn positions_go_back(server: &RedisServer) -> bool {
    let mut layers = Vec::new();
    for _ in 0..3 {
        layers.push(layer(&server.url(), PATIENT).await.0);
    }
    let mut last = 0;
    for round in 0..60_u64 {
        for (at, layer) in layers.iter().enumerate() {
            // The second is behind, the third far behind.
            layer.put(&key(1), rows(entry(EPOCH, 100 + round - at as u64 * round.min(30))), Miss::default());
        }
        let seen = get(&layers[0], &key(1)).await.map_or(0, |entry| entry.head.position.0);
        if seen < last {
            return true;
        }
        last = seen;
    }
    for layer in &layers {
        // This waits for every write in the queue.
        put(layer, &key(9), entry(EPOCH, 1)).await;
    }
    get(&layers[0], &key(1)).await.unwrap().head.position != Position(159)
}

#[test]
fn an_older_entry_never_replaces_a_newer_one() {
    block_on(async {
        let server = RedisServer::temporary().await.unwrap();
        assert!(!positions_go_back(&server).await);
        let (layer, _purges) = layer(&server.url(), PATIENT).await;
        let newest = entry(EPOCH, 159);
        for (what, offered, taken) in [
            ("the same", newest.clone(), false),
            ("one with more room", Snapshot { limit: 20, ..newest.clone() }, true),
            ("newer, but with less room", entry(EPOCH, 160), false),
            ("newer, with less room, and complete", Snapshot { complete: true, ..entry(EPOCH, 161) }, true),
            ("newer across half of a number", entry(EPOCH, 1 << 40), true),
            ("older across half of a number", entry(EPOCH, (1 << 33) - 1), false),
            ("of another epoch, where positions mean nothing", entry(Epoch(8), 3), true),
        ] {
            assert_eq!(put(&layer, &key(1), offered).await, taken, "{what}");
        }
    });
}

#[test]
fn control_without_the_comparison_positions_go_back() {
    without(Some(Safeguard::Compare), || {
        block_on(async {
            let server = RedisServer::temporary().await.unwrap();
            assert!(positions_go_back(&server).await);
        });
    });
}

/// How many of six instances that miss the same key at the same time read the store, which takes 20 ms.
async fn readers(server: &RedisServer) -> usize {
    let mut layers = Vec::new();
    for _ in 0..6 {
        layers.push(layer(&server.url(), PATIENT).await.0);
    }
    let key = &key(1);
    let one = async |layer: &Arc<RedisLayer>| {
        let found = get(layer, key).await;
        if found.is_none() {
            sleep(Duration::from_millis(20)).await;
            layer.put(key, rows(entry(EPOCH, 5)), Miss::default());
        }
        usize::from(found.is_none())
    };
    futures_util::future::join_all(layers.iter().map(one)).await.into_iter().sum()
}

#[test]
fn one_instance_reads_for_all() {
    block_on(async {
        assert_eq!(readers(&RedisServer::temporary().await.unwrap()).await, 1);
    });
}

#[test]
fn control_without_the_lease_all_read() {
    without(Some(Safeguard::Lease), || {
        block_on(async {
            assert_eq!(readers(&RedisServer::temporary().await.unwrap()).await, 6);
        });
    });
}

#[test]
fn the_others_wait_for_a_reader_that_died_no_longer_than_they_must() {
    block_on(async {
        let server = RedisServer::temporary().await.unwrap();
        let (dies, _purges) = layer(&server.url(), PATIENT).await;
        let (waits, _purges) = layer(&server.url(), PATIENT).await;
        assert_eq!(get(&dies, &key(1)).await, None);
        drop(dies);
        let begin = Instant::now();
        assert_eq!(get(&waits, &key(1)).await, None);
        assert!(begin.elapsed() >= LEASE_WAIT, "it waited");
        assert!(begin.elapsed() < LEASE_WAIT + PATIENT, "{:?}", begin.elapsed());
        assert_eq!(status(&waits).waited_in_vain, 1);
        assert!(put(&waits, &key(1), entry(EPOCH, 5)).await, "and what it read is shared all the same");
        assert_eq!(get(&waits, &key(1)).await, Some(entry(EPOCH, 5)));
    });
}

/// Reads while the server is stopped; returns how long each takes.
async fn gets_while_stopped(layer: &RedisLayer, server: &RedisServer, gets: usize) -> Vec<Duration> {
    server.signal(Signal::STOP);
    let mut took = Vec::new();
    for _ in 0..gets {
        let begin = Instant::now();
        let got = tokio::time::timeout(Duration::from_secs(1), get(layer, &key(1))).await;
        assert!(!matches!(got, Ok(Some(_))), "a stopped server answered");
        took.push(begin.elapsed());
        sleep(Duration::from_millis(1)).await;
    }
    server.signal(Signal::CONT);
    took
}

#[test]
fn a_server_that_hangs_keeps_nobody_waiting_and_is_used_again() {
    block_on(async {
        let server = RedisServer::temporary().await.unwrap();
        let patience = Duration::from_millis(5);
        let (layer, _purges) = layer(&server.url(), patience).await;
        put(&layer, &key(1), entry(EPOCH, 5)).await;
        let took = gets_while_stopped(&layer, &server, 500).await;
        let (p50, p99) = (percentile(took.clone(), 50), percentile(took.clone(), 99));
        let status = self::status(&layer);
        println!("a stopped server: p50 {p50:?}, p99 {p99:?}, most {:?}; {status:?}", took.iter().max());
        // Beside the timeout, the time that a busy machine takes to resume a task.
        assert!(p99 < patience + Duration::from_millis(20), "{p99:?}");
        assert!(p50 < Duration::from_millis(1), "after some it is left alone, and costs nothing: {p50:?}");
        assert!(status.late > 0 && status.away > 400, "{status:?}");
        up(&layer).await;
        until("an answer", STEP_TIMEOUT, async || get(&layer, &key(1)).await.ok_or("none".to_owned())).await.unwrap();
    });
}

#[test]
fn control_without_patience_a_server_that_hangs_is_waited_for() {
    without(Some(Safeguard::LayerTimeout), || {
        block_on(async {
            let server = RedisServer::temporary().await.unwrap();
            let (layer, _purges) = layer(&server.url(), Duration::from_millis(50)).await;
            let took = gets_while_stopped(&layer, &server, 1).await;
            assert!(took[0] > Duration::from_millis(500), "{took:?}");
        });
    });
}

#[test]
fn a_server_that_dies_and_comes_again_is_used_again() {
    block_on(async {
        let mut server = RedisServer::temporary().await.unwrap();
        let (layer, _purges) = layer(&server.url(), PATIENT).await;
        for round in 0..3 {
            assert!(put(&layer, &key(1), entry(EPOCH, round)).await);
            assert_eq!(get(&layer, &key(1)).await, Some(entry(EPOCH, round)));
            server.kill().await.unwrap();
            let begin = Instant::now();
            while status(&layer).servers_up > 0 {
                assert_eq!(get(&layer, &key(1)).await, None);
            }
            assert!(!put(&layer, &key(1), entry(EPOCH, 9)).await);
            println!("noticed after {:?}", begin.elapsed());
            server.start().await.unwrap();
            up(&layer).await;
        }
    });
}

#[test]
fn what_is_no_entry_is_none_and_is_replaced() {
    block_on(async {
        let server = RedisServer::temporary().await.unwrap();
        let (layer, _purges) = layer(&server.url(), PATIENT).await;
        let name = layer.shared.redis_keys(&key(1)).entry;
        for garbage in [&b"x"[..], b"C\x01", &[0xff; 4096], &[b'C'; 2_000_000]] {
            let _: () = server.ask(redis::cmd("SET").arg(&name).arg(garbage)).await.unwrap();
            assert_eq!(get(&layer, &key(1)).await, None);
            assert!(put(&layer, &key(1), entry(EPOCH, 5)).await);
            assert_eq!(get(&layer, &key(1)).await, Some(entry(EPOCH, 5)));
        }
        assert_eq!(status(&layer).damaged, 4);
        let _: i64 = server.ask(redis::cmd("DEL").arg(&name)).await.unwrap();
        let _: i64 = server.ask(redis::cmd("LPUSH").arg(&name).arg("a list")).await.unwrap();
        assert_eq!(get(&layer, &key(1)).await, None);
        assert!(!put(&layer, &key(1), entry(EPOCH, 5)).await);
        assert_eq!(status(&layer).failed, 1);
        assert!(put(&layer, &key(2), entry(EPOCH, 5)).await, "the server is well for all that");
        assert_eq!(get(&layer, &key(2)).await, Some(entry(EPOCH, 5)));
    });
}

#[test]
fn a_purge_reaches_every_instance_and_what_they_have_shared() {
    block_on(async {
        let server = RedisServer::temporary().await.unwrap();
        let (one, mut told_one) = layer(&server.url(), PATIENT).await;
        let (other, mut told_other) = layer(&server.url(), PATIENT).await;
        for author in [1, 2] {
            put(&other, &key(author), entry(EPOCH, 5)).await;
        }
        let purge = Purge::Author(PublicKey::from_bytes([1; 32]));
        assert!(one.purge(&purge).await);
        assert_eq!(told_other.recv().await, Some(purge.clone()));
        for layer in [&one, &other] {
            assert_eq!(get(layer, &key(1)).await, None, "it is not served any more");
            assert_eq!(get(layer, &key(2)).await, Some(entry(EPOCH, 5)), "and nothing else is gone");
        }
        assert!(put(&other, &key(1), entry(EPOCH, 4)).await, "what was read since is taken, even an older one");
        assert_eq!(get(&one, &key(1)).await, Some(entry(EPOCH, 4)));
        assert!(other.purge(&Purge::All).await);
        assert_eq!(told_one.recv().await, Some(Purge::All), "and whoever purged is not told of its own");
        assert_eq!(get(&one, &key(2)).await, None);
        let (late, mut told_late) = layer(&server.url(), PATIENT).await;
        assert_eq!(told_late.recv().await, Some(purge), "who comes later learns of it");
        assert_eq!(told_late.recv().await, Some(Purge::All));
        assert_eq!(get(&late, &key(2)).await, None);
    });
}

#[test]
fn with_no_server_a_purge_says_that_it_reached_nobody() {
    block_on(async {
        let nowhere = format!("redis://127.0.0.1:{}", deploy::free_port().unwrap());
        let (layer, _purges) =
            RedisLayer::start(RedisAddress::parse(&nowhere).unwrap(), settings(Duration::from_millis(5)));
        assert!(!layer.purge(&Purge::All).await);
        assert_eq!(get(&layer, &key(1)).await, None);
    });
}

#[test]
fn a_cluster_carries_entries_on_all_masters_and_a_failover_is_followed() {
    block_on(async {
        let mut cluster = RedisCluster::start(Home::temporary().unwrap()).await.unwrap();
        let (layer, _purges) = layer(&cluster.url(), PATIENT).await;
        for author in 0..30 {
            assert!(put(&layer, &key(author), entry(EPOCH, 5)).await);
            assert_eq!(get(&layer, &key(author)).await, Some(entry(EPOCH, 5)));
        }
        let masters = cluster.masters().await.unwrap();
        for master in &masters {
            let keys: usize = cluster.servers[*master].ask(&redis::cmd("DBSIZE")).await.unwrap();
            assert!(keys > 0, "a master without entries");
        }
        cluster.servers[masters[0]].kill().await.unwrap();
        cluster.wait_whole().await.unwrap();
        let all = until("all entries to be taken again", STEP_TIMEOUT, async || {
            let mut taken = 0;
            for author in 0..30 {
                // Another epoch each time: the entry that is there does not count as newer.
                put(&layer, &key(author), entry(Epoch(rand::random()), 5)).await;
                taken += usize::from(get(&layer, &key(author)).await.is_some());
            }
            if taken == 30 { Ok(()) } else { Err(format!("{taken}: {:?}", status(&layer))) }
        });
        all.await.unwrap();
    });
}
