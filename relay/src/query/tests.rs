//! Snapshots that the log brings up to date, against a naive model.

use super::page::{PageSnapshot, merge, snapshot};
use crate::cache::{Count, Listed, Unsure};
use crate::log::Tail;
use crate::store::Page;
use crate::types::safeguard::{Safeguard, without};
use crate::types::{
    Change, Event, EventId, Filter, Head, Insertion, Kind, LogEntry, Position, PublicKey, Removal, RemovalCause, Row,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

/// A short history over a small vocabulary, so that everything collides.
struct History {
    entries: Vec<LogEntry>,
}

impl History {
    fn random(rng: &mut StdRng) -> Self {
        let mut alive: Vec<Arc<Event>> = Vec::new();
        let mut entries = Vec::new();
        for position in 1..=rng.random_range(1..40) {
            let mut changes = Vec::new();
            for _ in 0..rng.random_range(1..4) {
                if !alive.is_empty() && rng.random_bool(0.35) {
                    let event = alive.swap_remove(rng.random_range(0..alive.len()));
                    changes.push(Change::Removed(Removal { event, cause: RemovalCause::Deleted }));
                } else {
                    let event = Arc::new(random_event(rng));
                    alive.push(event.clone());
                    changes.push(Change::Inserted(Insertion::new(event)));
                }
            }
            entries.push(LogEntry::new(Position(position), changes));
        }
        Self { entries }
    }

    fn head(&self) -> Position {
        Position(self.entries.len() as u64)
    }

    /// Everything that matches as of `position`, in order.
    fn answer(&self, filter: &Filter, position: Position) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for change in self.entries.iter().filter(|entry| entry.position <= position).flat_map(|e| e.changes.iter()) {
            match change {
                Change::Inserted(insertion) if filter.matches(&insertion.event) => {
                    rows.push((&*insertion.event).into())
                }
                Change::Inserted(_) => {}
                Change::Removed(removal) => rows.retain(|row| row.key.id != removal.id()),
            }
        }
        rows.sort_by_key(|row| row.key.order());
        rows
    }

    fn snapshot(&self, filter: &Filter, position: Position, limit: usize) -> PageSnapshot {
        let mut rows = self.answer(filter, position);
        let complete = rows.len() <= limit;
        rows.truncate(limit);
        let head = Head { position, ..Head::default() };
        snapshot(Page { rows, rest: Vec::new(), head, complete }, limit)
    }

    fn tail(&self, after: Position) -> Tail {
        Tail {
            entries: self.entries.iter().filter(|entry| entry.position > after).cloned().collect(),
            head: Head { position: self.head(), ..Head::default() },
        }
    }
}

fn random_event(rng: &mut StdRng) -> Event {
    let tags: Vec<Vec<String>> = vec![vec!["salt".into(), rng.random::<u64>().to_string()]];
    Event::build(author(rng), rng.random_range(0..12), Kind(rng.random_range(1..3)), &tags, "", |_| [0; 64])
}

fn author(rng: &mut StdRng) -> PublicKey {
    PublicKey::from_bytes([rng.random_range(0..3); 32])
}

fn random_filter(rng: &mut StdRng) -> Filter {
    Filter {
        authors: rng.random_bool(0.5).then(|| [author(rng)].into()),
        kinds: rng.random_bool(0.3).then(|| [Kind(1)].into()),
        since: rng.random_bool(0.2).then(|| rng.random_range(0..12)),
        ..Filter::default()
    }
}

/// Runs the cases and returns (wrong answers, answers that asked to be read again, all).
fn run(seeds: u64) -> (usize, usize, usize) {
    let (mut wrong, mut short, mut all) = (0, 0, 0);
    for seed in 0..seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let history = History::random(&mut rng);
        let filter = random_filter(&mut rng);
        let position = Position(rng.random_range(0..=history.head().0));
        let limit = rng.random_range(1..8);
        let mut snapshot = history.snapshot(&filter, position, limit);
        let tail = history.tail(position);
        snapshot.advance(&tail.entries, tail.head, |event| filter.matches(event));
        all += 1;
        if snapshot.is_short(limit) {
            short += 1;
            continue;
        }

        let mut expected = history.answer(&filter, history.head());
        expected.truncate(limit);
        let keys: Vec<_> = merge(vec![snapshot]).iter().map(|candidate| candidate.key()).collect();
        wrong += usize::from(keys != expected.iter().map(|row| row.key).collect::<Vec<_>>());
    }
    (wrong, short, all)
}

#[test]
fn a_snapshot_moved_on_by_the_log_is_what_the_store_would_answer() {
    let (wrong, short, all) = run(50_000);
    assert_eq!(wrong, 0, "of {all}");
    assert!(short * 2 < all, "most answers need no second read: {short} of {all} did");
}

#[test]
fn control_without_ignoring_what_is_older_than_the_last_row_answers_are_wrong() {
    let (wrong, _, _) = without(Some(Safeguard::IgnoreOlder), || run(50_000));
    assert!(wrong > 100, "the oracle would not notice: only {wrong} wrong");
}

#[test]
fn filters_are_merged_newest_first_and_each_event_once() {
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..500 {
        let history = History::random(&mut rng);
        let filters = [random_filter(&mut rng), random_filter(&mut rng), random_filter(&mut rng)];
        let head = history.head();
        let snapshots = filters.iter().map(|filter| history.snapshot(filter, head, 5)).collect();
        let merged: Vec<_> = merge(snapshots).iter().map(|candidate| candidate.key()).collect();
        let mut expected: Vec<_> = filters
            .iter()
            .flat_map(|filter| history.answer(filter, head).into_iter().take(5))
            .map(|row| row.key)
            .collect();
        expected.sort_by_key(crate::types::Key::order);

        expected.dedup();
        assert_eq!(merged, expected);
    }
}

/// Counts as of a random position, brought up to date: (wrong, unsure, all). Half of the tails are read late, as the
/// shared log may be: they lack insertions whose events were removed since.
fn run_counts(seeds: u64) -> (usize, usize, usize) {
    let (mut wrong, mut unknown) = (0, 0);
    for seed in 0..seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let history = History::random(&mut rng);
        let filter = random_filter(&mut rng);
        let at = Position(rng.random_range(0..=history.head().0));
        let mut tail = history.tail(at);
        if rng.random_bool(0.5) {
            let gone: Vec<EventId> = removals(&history.entries).collect();
            for entry in &mut tail.entries {
                let kept = |change: &&Change| !matches!(change, Change::Inserted(i) if gone.contains(&i.event.id()));
                let changes: Arc<[Change]> = entry.changes.iter().filter(kept).cloned().collect();
                entry.whole = changes.len() == entry.changes.len();
                entry.changes = changes;
            }
        }

        let number = history.answer(&filter, at).len() as u64;
        let head = Head { position: at, ..Head::default() };
        let mut count = Count { head, number, counted_at: 0, until: None };
        match count.advance(&tail.entries, tail.head, |event| filter.matches(event)) {
            Err(Unsure) => unknown += 1,
            Ok(()) => wrong += usize::from(count.number != history.answer(&filter, history.head()).len() as u64),
        }
    }
    (wrong, unknown, seeds as usize)
}

fn removals(entries: &[LogEntry]) -> impl Iterator<Item = EventId> + '_ {
    entries.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
        Change::Removed(removal) => Some(removal.id()),
        Change::Inserted(_) => None,
    })
}

#[test]
fn a_count_moved_on_by_the_log_is_what_the_store_would_count() {
    let (wrong, unknown, all) = run_counts(10_000);
    assert_eq!(wrong, 0, "of {all}");
    assert!(unknown * 2 < all, "most counts need no second: {unknown} of {all} did");
}

#[test]
fn control_where_every_removal_is_believed_counts_are_wrong() {
    let (wrong, _, all) = without(Some(Safeguard::SureCounts), || run_counts(10_000));
    assert!(wrong > 100, "the test would not notice: only {wrong} of {all} wrong");
}
