//! Measures the cost of one event in the matcher while the number of filters grows and the number of matches stays.
//!
//! The mix: 60 % feeds (authors + kinds), 20 % mentions (#p + kinds), 10 % threads (#e), 5 % ids, 5 % topics (kinds +
//! #t). The population of authors, topics and threads grows with the filters, so that an event always matches about
//! ten. Feeds name 50 to 300 authors as real ones do; a million of those would take 10 GB or more, so the largest size
//! is measured with 1 to 5 authors, and 10,000 with both.
//!
//! Run it with `cargo bench -p relay --bench matcher`.

use criterion::Criterion;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay::matcher::Matcher;
use relay::types::{Event, EventId, Filter, Kind, PublicKey, TagFilter};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// The numbers of distinct events that come in turn. With few of them, their filters stay in the processor's caches,
/// and the figure is the work alone. With many, an event's filters out of a million are in main memory when it comes.
const EVENTS: [u32; 2] = [256, 1 << 14];

const FEW: RangeInclusive<usize> = 1..=5;
const MANY: RangeInclusive<usize> = 50..=300;

/// The authors, topics and threads of one size, from which filters and events are drawn.
struct World {
    filters: u32,
    authors: u32,
    authors_per_feed: RangeInclusive<usize>,
}

fn bytes(class: u8, number: u32) -> [u8; 32] {
    let mut rng = StdRng::seed_from_u64(u64::from(class) << 32 | u64::from(number));
    rng.random()
}

fn hex(class: u8, number: u32) -> String {
    EventId::from_bytes(bytes(class, number)).to_hex()
}

fn kinds(list: &[u16]) -> Option<Box<[Kind]>> {
    Some(list.iter().map(|kind| Kind(*kind)).collect())
}

fn tag(letter: u8, value: String) -> Box<[TagFilter]> {
    Box::new([TagFilter { letter, values: Box::new([value.into()]) }])
}

impl World {
    /// A population in which each author is in about six feeds, and each mention, thread and topic in about one filter.
    fn new(filters: u32, authors_per_feed: RangeInclusive<usize>) -> Self {
        let mean = (authors_per_feed.start() + authors_per_feed.end()) as u32 / 2;
        Self { filters, authors: (filters * 6 / 10 * mean / 6).max(1), authors_per_feed }
    }

    fn share(&self, per_cent: u32) -> u32 {
        (self.filters / 100 * per_cent).max(1)
    }

    fn filter(&self, rng: &mut StdRng) -> Filter {
        match rng.random_range(0..100) {
            0..60 => {
                let count = rng.random_range(self.authors_per_feed.clone());
                let authors: BTreeSet<_> =
                    (0..count).map(|_| PublicKey::from_bytes(bytes(0, rng.random_range(0..self.authors)))).collect();
                let authors = Some(authors.into_iter().collect());
                Filter { authors, kinds: kinds(&[1, 6]), limit: Some(100), ..Filter::default() }
            }
            60..80 => {
                let value = hex(1, rng.random_range(0..self.share(20)));
                Filter { tags: tag(b'p', value), kinds: kinds(&[1, 6, 7, 9735]), ..Filter::default() }
            }
            80..90 => Filter { tags: tag(b'e', hex(2, rng.random_range(0..self.share(10)))), ..Filter::default() },
            90..95 => Filter { ids: Some(Box::new([EventId::from_bytes(rng.random())])), ..Filter::default() },
            _ => {
                let topic = format!("topic {}", rng.random_range(0..self.share(5)));
                Filter { tags: tag(b't', topic), kinds: kinds(&[1, 30_023]), ..Filter::default() }
            }
        }
    }

    fn event(&self, rng: &mut StdRng) -> Event {
        let mut pick = |per_cent| rng.random_range(0..self.share(per_cent));
        let tags = [
            vec!["p".to_owned(), hex(1, pick(20))],
            vec!["p".to_owned(), hex(1, pick(20))],
            vec!["e".to_owned(), hex(2, pick(10))],
            vec!["t".to_owned(), format!("topic {}", pick(5))],
        ];
        let author = PublicKey::from_bytes(bytes(0, rng.random_range(0..self.authors)));
        Event::build(author, 1_700_000_000, Kind(1), &tags, "hello", |_| [0; 64])
    }
}

/// The resident memory of this process in bytes; 0 where the system does not tell.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// The processor time of this thread, which other programs disturb less than the clock's time; the latter where the
/// system does not tell.
fn processor_time(started: Instant) -> Duration {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = status.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
    nanoseconds.map_or_else(|| started.elapsed(), Duration::from_nanos)
}

/// Measures one size; returns nanoseconds an event, for each of [`EVENTS`].
fn measure(criterion: &mut Criterion, filters: u32, authors_per_feed: RangeInclusive<usize>) -> [f64; 2] {
    let world = World::new(filters, authors_per_feed.clone());
    let mut rng = StdRng::seed_from_u64(7);
    let before = resident();
    let mut matcher = Matcher::new();
    for number in 0..filters {
        // The subscriber is a number, so that the figure does not include a delivery.
        let _ = matcher.insert(&[world.filter(&mut rng)], number);
    }
    let per_filter = resident().saturating_sub(before) / filters as usize;
    println!("{filters} filters, {authors_per_feed:?} authors a feed: {per_filter} more bytes resident per filter");
    EVENTS.map(|count| {
        let events: Vec<Event> = (0..count).map(|_| world.event(&mut rng)).collect();
        let label = format!("{filters} filters, {authors_per_feed:?} authors a feed, {count} different events");
        run(criterion, &label, &mut matcher, &events)
    })
}

fn run(criterion: &mut Criterion, label: &str, matcher: &mut Matcher<u32>, events: &[Event]) -> f64 {
    let started = Instant::now();
    let before = matcher.stats();
    let mut called = 0u64;
    let total = Cell::new((Duration::ZERO, 0));
    criterion.bench_function(label, |bencher| {
        let mut order = events.iter().cycle();
        bencher.iter_custom(|rounds| {
            let (start, processor) = (Instant::now(), processor_time(started));
            for event in order.by_ref().take(rounds as usize) {
                matcher.for_each_match(event, |target| called += u64::from(*target != u32::MAX));
            }
            let (time, events) = total.get();
            total.set((time + processor_time(started) - processor, events + rounds));
            start.elapsed()
        });
    });

    let stats = matcher.stats();
    let (time, rounds) = total.get();
    let nanoseconds = time.as_nanos() as f64 / rounds as f64;
    println!(
        "{label}: {nanoseconds:.0} ns/event, {:.1} matches/event, {:.2} candidates/hit",
        called as f64 / (stats.events - before.events) as f64,
        (stats.candidates - before.candidates) as f64 / (stats.hits - before.hits).max(1) as f64,
    );
    nanoseconds
}

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2));
    // The largest size first: later sizes reuse memory that is resident already, which would hide their growth.
    let large = measure(&mut criterion, 1_000_000, FEW);
    let small = measure(&mut criterion, 10_000, FEW);
    measure(&mut criterion, 10_000, MANY);
    measure(&mut criterion, 100, MANY);
    for (count, (large, small)) in EVENTS.iter().zip(large.iter().zip(small)) {
        println!("ratio of 1,000,000 to 10,000 filters, {count} different events: {:.2}", large / small);
    }
    criterion.final_summary();
}
