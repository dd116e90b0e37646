//! Measures a store in the process: appends, then every shape of filter that clients send.
//!
//! - SQLite: `cargo run --release --example store_bench -- [--events 300000] [--folder DIR] [--clients 4] [--seconds
//!   2]`
//! - PostgreSQL: `… -- --postgres [URL] [--events 1000000]`: prints buffers, and the limit of each shape. Without a URL
//!   it starts a server of its own and removes it afterwards. It does not fill a database that is full already
//!   (`--keep` leaves one).
//!
//! The events are synthetic (see `world`). Trust ratios, not absolute figures.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod appending;
mod reading;
mod server;
mod shapes;
mod world;

use relay::store::Store;
use relay::store::sqlite::{Options, SqliteStore};
use relay::types::Verified;
use std::sync::Arc;
use std::time::{Duration, Instant};
use world::{NOW, World};

/// How many events are appended at once to fill the store.
const BATCH: usize = 512;

/// The command line: `--name value`.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    fn text(&self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|argument| argument == name)?;
        self.0.get(at + 1).filter(|value| !value.starts_with("--")).cloned()
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.text(name).map_or(default, |value| value.parse().unwrap())
    }
}

/// The processor time of this process so far, in seconds: other processes disturb it less than the clock's time.
pub(crate) fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> =
        stat.rsplit(") ").next().unwrap().split(' ').map(|field| field.parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) / 100.0
}

pub(crate) fn percentile(sorted: &[Duration], per_cent: usize) -> f64 {
    sorted.get(sorted.len() * per_cent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Fills the store up to `events` events, which the seed determines; it has `have` of them already.
async fn fill(store: &dyn Store, world: &mut World, events: usize, have: u64) {
    let start = Instant::now();
    let mut left = events;
    while left > 0 {
        let batch: Vec<_> = (0..left.min(BATCH)).map(|_| Verified::vouch(world.event())).collect();
        left -= batch.len();
        if have == 0 {
            store.append(batch, NOW).await.unwrap();
        }
    }
    println!("{events} events, {:.0}/s made and stored", events as f64 / start.elapsed().as_secs_f64());
}

#[tokio::main]
async fn main() {
    let arguments = Arguments(std::env::args().collect());
    if arguments.has("--postgres") {
        return server::run(&arguments).await;
    }
    let scratch = tempfile::tempdir().unwrap();
    let folder = arguments.text("--folder").map_or(scratch.path().to_owned(), Into::into);
    appending::rates(&folder).await;
    let store = SqliteStore::open(Options::new(folder.join("bench.db"))).await.unwrap();
    let mut world = World::new();
    fill(&store, &mut world, arguments.number("--events", 300_000), 0).await;
    println!("{:?}", store.archive().await.unwrap().stats().await.unwrap());
    reading::measure(Arc::new(store.clone()), &mut world, &arguments, None).await;
    store.close().await;
}
