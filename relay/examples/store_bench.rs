//! Measures the embedded store in the process: appends, then every shape of filter that clients send.
//!
//! `cargo run --release --example store_bench -- [--events 300000] [--folder DIR] [--clients 4] [--seconds 3]`
//!
//! The events are synthetic: 50,000 authors after Zipf (0.9), 1.8 tags an event, 36 months with most at the newest end,
//! about 600 bytes each. Trust ratios, not absolute figures.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use relay::config::Durability;
use relay::store::sqlite::{Options, SqliteStore};
use relay::store::{Read, Store};
use relay::types::{Access, Event, EventId, Filter, Kind, Position, PublicKey, TagFilter, Verified};
use std::sync::Arc;
use std::time::{Duration, Instant};

const AUTHORS: usize = 50_000;
const NOW: i64 = 1_790_000_000;
const SPAN: f64 = 36.0 * 30.0 * 86_400.0;

struct World {
    random: StdRng,
    authors: Vec<PublicKey>,
    weights: Vec<f64>,
    ids: Vec<EventId>,
}

impl World {
    fn new() -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let authors = (0..AUTHORS).map(|_| PublicKey::from_bytes(random.random())).collect();
        let mut sum = 0.0;
        let weights = (1..=AUTHORS).map(|rank| {
            sum += (rank as f64).powf(-0.9);
            sum
        });
        Self { weights: weights.collect(), random, authors, ids: Vec::new() }
    }

    fn author(&mut self) -> PublicKey {
        let at = self.random.random::<f64>() * self.weights[AUTHORS - 1];
        self.authors[self.weights.partition_point(|weight| *weight < at).min(AUTHORS - 1)]
    }

    /// An event from anywhere in the 36 months.
    fn event(&mut self) -> Arc<Event> {
        let created_at = NOW - (SPAN * self.random.random::<f64>().powf(2.5)) as i64;
        self.event_at(created_at)
    }

    fn event_at(&mut self, created_at: i64) -> Arc<Event> {
        let kinds = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7, 7, 7, 7, 6, 0, 3, 1059, 30023, 4, 9735];
        let kind = Kind(*kinds.choose(&mut self.random).unwrap());
        let author = self.author();
        let mut tags = Vec::new();
        for _ in 0..*[0, 1, 2, 2, 2, 3].choose(&mut self.random).unwrap() {
            if self.ids.len() < 1000 || self.random.random_bool(0.5) {
                tags.push(vec!["p".into(), self.author().to_hex()]);
            } else {
                // Recent events are answered most.
                let back = (self.random.random::<f64>().powi(3) * self.ids.len() as f64) as usize;
                tags.push(vec!["e".into(), self.ids[self.ids.len() - 1 - back].to_hex()]);
            }
        }
        if kind.0 == 30023 {
            tags.push(vec!["d".into(), self.random.random_range(0..50).to_string()]);
        }
        let content = "x".repeat(self.random.random_range(20..300));
        let event = Event::build(author, created_at, kind, &tags, &content, |_| [7; 64]);
        self.ids.push(event.id());
        Arc::new(event)
    }
}

fn list<T: Ord>(mut list: Vec<T>) -> Option<Box<[T]>> {
    list.sort();
    list.dedup();
    Some(list.into())
}

fn tags(letter: u8, values: Vec<String>) -> Box<[TagFilter]> {
    let values = list(values.into_iter().map(String::into_boxed_str).collect()).unwrap();
    [TagFilter { letter, values }].into()
}

type Shape = (&'static str, usize, fn(&mut World) -> Filter);

fn shapes() -> Vec<Shape> {
    fn some<T>(count: usize, mut make: impl FnMut() -> T) -> Vec<T> {
        (0..count).map(|_| make()).collect()
    }
    let all = Filter::default;
    let _ = all;
    vec![
        ("one id", 1, |w| Filter { ids: list(vec![*w.ids.choose(&mut w.random).unwrap()]), ..Filter::default() }),
        ("100 ids", 100, |w| Filter {
            ids: list(some(100, || *w.ids.choose(&mut w.random).unwrap())),
            ..Filter::default()
        }),
        ("profile", 1, |w| Filter { authors: list(vec![w.author()]), kinds: list(vec![Kind(0)]), ..Filter::default() }),
        ("300 profiles", 300, |w| Filter {
            authors: list(some(300, || w.author())),
            kinds: list(vec![Kind(0)]),
            ..Filter::default()
        }),
        ("notes of one author, limit 20", 20, |w| Filter {
            authors: list(vec![w.author()]),
            kinds: list(vec![Kind(1)]),
            ..Filter::default()
        }),
        ("one author, any kind, limit 50", 50, |w| Filter { authors: list(vec![w.author()]), ..Filter::default() }),
        ("feed of 300 popular authors, limit 50", 50, |w| Filter {
            authors: list(some(300, || w.author())),
            kinds: list(vec![Kind(1), Kind(6)]),
            ..Filter::default()
        }),
        ("feed of 300 any authors, limit 50", 50, |w| Filter {
            authors: list(some(300, || *w.authors.choose(&mut w.random).unwrap())),
            kinds: list(vec![Kind(1), Kind(6)]),
            ..Filter::default()
        }),
        ("feed of 300 any authors, limit 500", 500, |w| Filter {
            authors: list(some(300, || *w.authors.choose(&mut w.random).unwrap())),
            kinds: list(vec![Kind(1), Kind(6)]),
            ..Filter::default()
        }),
        ("feed of 1000 any authors, 4 kinds, limit 100", 100, |w| Filter {
            authors: list(some(1000, || *w.authors.choose(&mut w.random).unwrap())),
            kinds: list(vec![Kind(1), Kind(6), Kind(30023), Kind(7)]),
            ..Filter::default()
        }),
        ("300 authors, any kind, limit 50", 50, |w| Filter {
            authors: list(some(300, || w.author())),
            ..Filter::default()
        }),
        ("one #p, limit 100", 100, |w| Filter { tags: tags(b'p', vec![w.author().to_hex()]), ..Filter::default() }),
        ("one #p and kinds, limit 100", 100, |w| Filter {
            tags: tags(b'p', vec![w.author().to_hex()]),
            kinds: list(vec![Kind(1), Kind(6), Kind(7), Kind(9735)]),
            ..Filter::default()
        }),
        ("one #e, limit 100", 100, |w| {
            let back = (w.random.random::<f64>().powi(3) * w.ids.len() as f64) as usize;
            Filter { tags: tags(b'e', vec![w.ids[w.ids.len() - 1 - back].to_hex()]), ..Filter::default() }
        }),
        ("50 #e, limit 100", 100, |w| Filter {
            tags: tags(b'e', some(50, || w.ids.choose(&mut w.random).unwrap().to_hex())),
            ..Filter::default()
        }),
        ("#p and author, limit 50", 50, |w| Filter {
            tags: tags(b'p', vec![w.author().to_hex()]),
            authors: list(vec![w.author()]),
            ..Filter::default()
        }),
        ("kinds 1 6 7, limit 100", 100, |w| {
            let until = NOW - w.random.random_range(0..10_000_000);
            Filter { kinds: list(vec![Kind(1), Kind(6), Kind(7)]), until: Some(until), ..Filter::default() }
        }),
        ("kind 1, limit 100", 100, |w| {
            let until = NOW - w.random.random_range(0..10_000_000);
            Filter { kinds: list(vec![Kind(1)]), until: Some(until), ..Filter::default() }
        }),
        ("time window, limit 100", 100, |w| {
            let until = NOW - w.random.random_range(0..10_000_000);
            Filter { until: Some(until), ..Filter::default() }
        }),
    ]
}

/// What this process has used of the processors so far, in seconds: a measure that other processes disturb less.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> =
        stat.rsplit(") ").next().unwrap().split(' ').map(|field| field.parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) / 100.0
}

fn percentile(sorted: &[Duration], per_cent: usize) -> f64 {
    sorted.get(sorted.len() * per_cent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

async fn append_rates(folder: &std::path::Path, durability: Durability) {
    let mut world = World::new();
    for size in [1, 100, 256, 500] {
        let path = folder.join(format!("append-{durability:?}-{size}.db"));
        let store = SqliteStore::open(Options { durability, ..Options::new(&path) }).await.unwrap();
        let events: Vec<_> = (0..(size as i64 * 400).min(60_000))
            // As they come in on a live relay: about now.
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

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned();
    let number = |name: &str, default: usize| option(name).map_or(default, |value| value.parse().unwrap());
    let (events, clients, seconds) = (number("--events", 300_000), number("--clients", 4), number("--seconds", 2));
    let scratch = tempfile::tempdir().unwrap();
    let folder = option("--folder").map_or(scratch.path().to_owned(), Into::into);

    append_rates(&folder, Durability::Full).await;
    append_rates(&folder, Durability::Relaxed).await;

    let store = SqliteStore::open(Options::new(folder.join("bench.db"))).await.unwrap();
    let mut world = World::new();
    let all: Vec<_> = (0..events).map(|_| Verified::vouch(world.event())).collect();
    let start = Instant::now();
    for batch in all.chunks(256) {
        store.append(batch.to_vec(), NOW).await.unwrap();
    }
    println!("filled {events} events at {:.0}/s", events as f64 / start.elapsed().as_secs_f64());
    println!("{:?}", store.archive().await.unwrap().stats().await.unwrap());
    drop(all);

    println!(
        "{:46} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "rows", "p50 ms", "p95 ms", "alone/s", "clients/s", "CPU µs"
    );
    let access = Access::default();
    for (name, limit, make) in shapes() {
        let filters: Vec<_> = (0..300).map(|_| make(&mut world)).collect();
        let ask = |filter| Read {
            filter,
            limit,
            after: None,
            access: Some(&access),
            at_least: Position::default(),
            now: NOW,
            max_text_bytes: 4 << 20,
        };
        let (mut times, mut rows) = (Vec::new(), 0);
        let (begun, used) = (Instant::now(), processor_seconds());
        while begun.elapsed() < Duration::from_secs(1) {
            for filter in &filters {
                let begun = Instant::now();
                rows += store.read(&ask(filter)).await.unwrap().rows.len();
                times.push(begun.elapsed());
            }
        }
        let alone = times.len() as f64 / begun.elapsed().as_secs_f64();
        let rows = rows as f64 / times.len() as f64;
        let used = (processor_seconds() - used) * 1e6 / times.len() as f64;
        times.sort();
        let filters = Arc::new(filters);
        let begun = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|client| {
                let (store, filters, access) = (store.clone(), filters.clone(), access.clone());
                tokio::spawn(async move {
                    let mut done = 0;
                    for at in (client * 70).. {
                        let filter = &filters[at % filters.len()];
                        let read = Read {
                            filter,
                            limit,
                            after: None,
                            access: Some(&access),
                            at_least: Position::default(),
                            now: NOW,
                            max_text_bytes: 4 << 20,
                        };
                        store.read(&read).await.unwrap();
                        done += 1;
                        if begun.elapsed() > Duration::from_secs(seconds as u64) {
                            break;
                        }
                    }
                    done
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        let together = f64::from(done) / begun.elapsed().as_secs_f64();
        println!(
            "{name:46} {rows:9.1} {:9.3} {:9.3} {alone:9.0} {together:9.0} {used:9.0}",
            percentile(&times, 50),
            percentile(&times, 95)
        );
    }
    store.close().await;
}
