//! How fast the writer stores events, and how large they are on disk.

use super::*;
use crate::types::Change;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Instant;

/// Skewed events of about 600 bytes with 1.8 tags each, in the order of time.
fn events(count: usize, seed: u64) -> Vec<Verified> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut made = Vec::with_capacity(count);
    for n in 0..count {
        let author: f64 = random.random();
        let mut pubkey = [0x5a; 32];
        pubkey[..4].copy_from_slice(&((author.powi(4) * 50_000.0) as u32).to_be_bytes());
        let kind = [1, 1, 1, 7, 7, 6, 1, 9735, 30023, 0][random.random_range(0..10)];
        let hex = |random: &mut StdRng| format!("{:064x}", random.random::<u128>());
        let mut tags: Vec<_> = (0..random.random_range(0..3)).map(|_| tag("e", &hex(&mut random))).collect();
        tags.extend(
            (0..random.random_range(0..3)).map(|_| tag("p", &format!("{:064x}", random.random_range(0..50_000)))),
        );
        if kind == 30023 {
            tags.push(tag("d", &random.random_range(0..1_000).to_string()));
        }
        let content = "lorem ipsum ".repeat(random.random_range(2..30));
        let at = 1_790_000_000 + i64::try_from(n / 100).unwrap();
        let event = Event::build(PublicKey::from_bytes(pubkey), at, Kind(kind), &tags, &content, |_| [7; 64]);
        made.push(Verified::vouch(Arc::new(event)));
    }
    made
}

/// `SPEED_URL`: another server, with an empty database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn events_a_second_and_bytes_an_event() {
    let cluster =
        PostgresCluster::setup().set("shared_buffers", "512MB").set("max_wal_size", "2GB").start().await.unwrap();
    let url = std::env::var("SPEED_URL").unwrap_or_else(|_| cluster.primary().unwrap().url());
    let mut conn = connect(&url).await;
    let hasher = schema::migrate(&mut conn).await.unwrap();
    let each: usize = std::env::var("SPEED_EVENTS").map_or(20_000, |events| events.parse().unwrap());
    let mut seed = 0;
    for connections in [1, 2] {
        for size in [100, 256, 512] {
            let mut writers = JoinSet::new();
            let mut lists = Vec::new();
            for _ in 0..connections {
                seed += 1;
                lists.push((connect(&url).await, events(each / connections, seed)));
            }
            let started = Instant::now();
            for (mut conn, list) in lists {
                writers.spawn(async move {
                    let (mut times, mut inserted) = (Vec::new(), 0);
                    for batch in list.chunks(size) {
                        let began = Instant::now();
                        let done = put(&mut conn, &hasher, batch).await.unwrap();
                        times.push(began.elapsed().as_secs_f64() * 1e3);
                        inserted += done.changes.iter().filter(|change| matches!(change, Change::Inserted(_))).count();
                    }
                    (times, inserted)
                });
            }
            let done = writers.join_all().await;
            let elapsed = started.elapsed().as_secs_f64();
            let mut times: Vec<f64> = done.iter().flat_map(|(times, _)| times.iter().copied()).collect();
            times.sort_by(f64::total_cmp);
            let inserted: usize = done.iter().map(|(_, inserted)| inserted).sum();
            println!(
                "{connections} connections, batches of {size}: {:.0} events/s stored, a batch p50 {:.1} ms, p95 {:.1} ms",
                inserted as f64 / elapsed,
                times[times.len() / 2],
                times[times.len() * 95 / 100],
            );
        }
    }
    run(&mut conn, "VACUUM ANALYZE").await;
    let count = number(&mut conn, "SELECT count(*) FROM event").await;
    let sizes: Vec<(String, i64)> = sqlx::query_as(
        "SELECT regexp_replace(c.relname, '_[0-9_]+(_pkey)?$', '\\1') AS name, sum(pg_total_relation_size(c.oid) - pg_indexes_size(c.oid))::int8 \
         FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i') \
         GROUP BY 1 HAVING sum(c.relpages) > 8 ORDER BY 2 DESC",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    println!("{count} events");
    for (name, bytes) in sizes {
        println!("{name:24} {:6} bytes an event", bytes / count);
    }
}
