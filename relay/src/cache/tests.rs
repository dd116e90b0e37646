//! The cache alone: what a scan does to it, and that it stays within its bytes.

use super::*;
use crate::telemetry::Metrics;
use crate::types::safeguard::{Safeguard, without};
use crate::types::{Change, Event, EventId, Insertion, Key, Kind, Position, PublicKey};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const NOW: Timestamp = 1_790_000_000;

fn cache(max_bytes: usize) -> Arc<Cache> {
    Cache::new(max_bytes, Arc::new(NoLayer), Arc::new(Metrics::detached()))
}

/// The filter of that number; no two are the same.
fn filter(number: u64) -> Filter {
    let mut author = [0; 32];
    author[..8].copy_from_slice(&number.to_le_bytes());
    Filter { authors: Some([PublicKey::from_bytes(author)].into()), ..Filter::default() }
}

fn row(number: u64, bytes: usize) -> Row {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    let key = Key { created_at: NOW, id: EventId::from_bytes(id) };
    Row { key, expires_at: None, text: "x".repeat(bytes).into() }
}

/// Asks as a query does: on a miss, reads and keeps. True on a hit.
fn ask(cache: &Cache, number: u64) -> bool {
    let query = cache.rows_query(&filter(number), &Access::default(), 1, NOW).unwrap();
    let found: Option<Snapshot> = cache.find(&query);
    if found.is_some() {
        return true;
    }
    let entry =
        Snapshot { head: Head::default(), limit: 2, rows: [row(number, 700)].into(), complete: true, read_at: NOW };
    cache.keep(query.hashed_key(), Answer::Rows(Arc::new(entry)), Duration::from_millis(1), |_, _| None);
    false
}

/// The hit ratio of a hot set whose requests follow Zipf, before and during a scan of a million other filters.
fn scanned(scan: u64) -> (f64, f64) {
    let mut rng = StdRng::seed_from_u64(1);
    // Room for about a fifth of the hot set.
    let cache = cache(1_000 * 2_048);
    let harmonic: f64 = (1..=5_000).map(|rank| 1.0 / f64::from(rank)).sum();
    let mut hot = || {
        let mut left = rng.random_range(0.0..harmonic);
        (1..=5_000_u64).find(|rank| {
            left -= 1.0 / *rank as f64;
            left <= 0.0
        })
    };
    let hot: Vec<u64> = (0..20_000).map(|_| hot().unwrap_or(1)).collect();
    for _ in 0..2 {
        for number in &hot {
            ask(&cache, *number);
        }
    }
    let ratio = |hits: usize, asked: usize| hits as f64 / asked as f64;
    let before = ratio(hot.iter().filter(|number| ask(&cache, **number)).count(), hot.len());
    let (mut hits, mut asked) = (0, 0);
    for number in 0..scan {
        ask(&cache, 1_000_000 + number);
        // One query in eleven is of the hot set.
        if number % 10 == 0 {
            asked += 1;
            hits += usize::from(ask(&cache, hot[asked % hot.len()]));
        }
    }
    (before, ratio(hits, asked))
}

#[test]
fn a_scan_of_a_million_filters_leaves_the_hot_set_where_it_was() {
    let (before, during) = scanned(1_000_000);
    println!("hit ratio of the hot set: {before:.3}, during the scan {during:.3}");
    assert!(before > 0.5, "{before}");
    assert!(during > before - 0.05, "{before} before, {during} during the scan");
}

#[test]
fn control_without_admission_a_scan_sweeps_the_hot_set_out() {
    let (before, during) = without(Some(Safeguard::Admission), || scanned(50_000));
    assert!(during < before - 0.1, "{before} before, {during} during the scan");
}

#[test]
fn it_stays_within_its_bytes_as_entries_grow_and_lets_all_of_them_go() {
    let cache = cache(1 << 20);
    for number in 0..500 {
        ask(&cache, number);
    }
    let full = cache.facts();
    assert!(full.bytes <= 1 << 20 && full.entries > 300, "{full:?}");
    for position in 1..200 {
        let author = filter(position % 500).authors.unwrap()[0];
        let tags = vec![vec!["salt".to_owned(), position.to_string()]];
        let event = Event::build(author, NOW + 1, Kind(1), &tags, &"y".repeat(8_000), |_| [0; 64]);
        let changes = [Change::Inserted(Insertion::new(Arc::new(event)))];
        cache.apply(&LogEntry::new(Position(position), changes));
        assert!(cache.facts().bytes <= 1 << 20, "{:?}", cache.facts());
    }
    assert!(cache.facts().evictions > 50, "{:?}", cache.facts());
    assert!(!cache.hottest(5).is_empty());
    cache.purge(&Purge::All);
    let ShardFacts { entries, bytes, .. } = cache.facts();
    assert_eq!((entries, bytes), (0, 0), "every byte that was counted is counted off again");
}

#[test]
fn a_purge_by_filter_finds_its_rows_and_counts_whatever_their_windows() {
    let cache = cache(1 << 20);
    let parse = |json: &str| Filter::parse(json).unwrap();
    let entry = Snapshot { head: Head::default(), limit: 2, rows: [].into(), complete: true, read_at: NOW };
    let author = "07".repeat(32);
    let fill = || {
        for json in [
            r#"{"kinds":[1],"limit":20}"#.to_owned(),
            format!(r#"{{"kinds":[1],"since":{}}}"#, NOW - 3_600),
            format!(r#"{{"kinds":[1],"since":{},"until":{},"limit":3}}"#, NOW - 90_000, NOW - 80_000),
            r#"{"kinds":[1,7]}"#.to_owned(),
            format!(r#"{{"kinds":[1],"authors":["{author}"]}}"#),
        ] {
            let query = cache.rows_query(&parse(&json), &Access::default(), 20, NOW).unwrap();
            cache.keep(query.hashed_key(), Answer::Rows(Arc::new(entry.clone())), Duration::ZERO, |_, _| None);
        }
        for filters in [&[r#"{"kinds":[1]}"#][..], &[r#"{"kinds":[7]}"#, r#"{"kinds":[1],"since":5}"#], &["{}"]] {
            let filters: Vec<Filter> = filters.iter().map(|json| parse(json)).collect();
            let query = cache.count_query(&filters, &Access::default(), NOW).unwrap();
            let count = Count { head: Head::default(), number: 0, counted_at: NOW, until: None };
            cache.keep(query.hashed_key(), Answer::Count(count), Duration::ZERO, |_, _| None);
        }
        assert_eq!(cache.facts().entries, 8);
    };
    for (purge, entries) in [
        (r#"filter={"kinds":[1]}"#.to_owned(), 5),
        (format!(r#"filter={{"kinds":[1],"since":{},"until":{NOW},"limit":50}}"#, NOW - 3_601), 5),
        (r#"filter={"kinds":[7,1]}"#.to_owned(), 1),
        (r#"filter={"kinds":[7]}"#.to_owned(), 1),
        (r#"filter={"limit":1}"#.to_owned(), 1),
        (r#"filter={"kinds":[2]}"#.to_owned(), 0),
        (format!("author={author}"), 1),
        ("all".to_owned(), 8),
    ] {
        fill();
        assert_eq!((cache.purge(&purge.parse().unwrap()), cache.facts().entries), (entries, 8 - entries), "{purge}");
    }
}

#[test]
fn what_is_not_asked_for_again_is_not_taken_for_hot() {
    let cache = cache(1 << 20);
    for _ in 0..20 {
        ask(&cache, 7);
    }
    ask(&cache, 8);
    let hottest = cache.hottest(2);
    assert_eq!((hottest[0].hits, hottest[0].rows, hottest[1].hits), (19, 1, 0));
    assert_eq!(hottest[0].saved(), Duration::from_millis(19));
    assert_eq!(cache.purge(&Purge::Filter(filter(7))), 1);
    assert!(!ask(&cache, 7), "it was forgotten");
}

#[test]
fn what_takes_changes_and_answers_nobody_is_let_go_of() {
    let cache = cache(1 << 20);
    ask(&cache, 7);
    let author = filter(7).authors.unwrap()[0];
    let mut position = 0;
    let mut change = |times: u64| {
        for _ in 0..times {
            position += 1;
            let event = Event::build(author, NOW + 1, Kind(1), &[], &position.to_string(), |_| [0; 64]);
            let changes = [Change::Inserted(Insertion::new(Arc::new(event)))];
            cache.apply(&LogEntry::new(Position(position), changes));
        }
    };
    for _ in 0..3 {
        change(255);
        assert!(ask(&cache, 7), "it answers now and then");
    }
    change(256);
    assert_eq!((cache.facts().entries, cache.facts().bytes), (0, 0));
}
