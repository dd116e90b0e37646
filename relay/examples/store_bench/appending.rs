//! Measures how many events a second SQLite stores, by durability and batch size.

use crate::world::{NOW, World};
use crate::{percentile, processor_seconds};
use relay::config::Durability;
use relay::store::Store;
use relay::store::sqlite::{Options, SqliteStore};
use relay::types::Verified;
use std::path::Path;
use std::time::Instant;

pub(crate) async fn rates(folder: &Path) {
    for durability in [Durability::Full, Durability::Relaxed] {
        rate(folder, durability).await;
    }
}

async fn rate(folder: &Path, durability: Durability) {
    let mut world = World::new();
    for size in [1, 100, 256, 500] {
        let path = folder.join(format!("append-{durability:?}-{size}.db"));
        let store = SqliteStore::open(Options { durability, ..Options::new(&path) }).await.unwrap();
        let events: Vec<_> = (0..(size as i64 * 400).min(60_000))
            // New events, as a live relay gets them.
            .map(|n| Verified::vouch(world.event_at(NOW - 1_000 + n / 100)))
            .collect();
        let mut times = Vec::new();

        let (start, used) = (Instant::now(), processor_seconds());
        for batch in events.chunks(size) {
            let begun = Instant::now();
            store.append(batch.to_vec(), NOW).await.unwrap();
            times.push(begun.elapsed());
        }

        let rate = events.len() as f64 / start.elapsed().as_secs_f64();
        times.sort();
        println!(
            "append {durability:?}, batches of {size:3}: {rate:8.0} events/s, p50 {:7.3} ms, p95 {:7.3} ms, {:5.1} µs of CPU an event",
            percentile(&times, 50),
            percentile(&times, 95),
            (processor_seconds() - used) * 1e6 / events.len() as f64
        );

        store.close().await;
        std::fs::remove_file(path).unwrap();
    }
}
