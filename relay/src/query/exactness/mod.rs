//! A query answers through the cache what the store would answer at the same head. The test draws random histories
//! (late insertions, deletions, replacements, expiry, bulk removal, failovers), readers with different rights, queries
//! for rows, counts and events by their ids, store reads that are older or newer than the local head, and entries that
//! are read late; and it interleaves all of them.
//!
//! Each control ablates one safeguard; then some answers must be wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod database;
mod flights;
mod pool;
mod private;
mod shelf;
mod world;

use crate::types::safeguard::{Safeguard, without};
use pool::Pool;
use world::World;

/// How the queries ended.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    asked: usize,
    answered: usize,
    /// The COUNTs among `answered`.
    counted: usize,
    /// The queries among `answered` for nothing but ids.
    by_id: usize,
    /// Answers that said that they were all, those that said that there was more, and those that went on to the end of
    /// a second.
    finish: usize,
    more: usize,
    whole_seconds: usize,
    wrong: usize,
    /// Not judged: a row was about to expire, or the log had left it out as removed later.
    unclear: usize,
    /// Ended with [`QueryError::OutOfReach`](super::QueryError::OutOfReach): the log moved on too fast, several times.
    given_up: usize,
    reads: usize,
}

fn run(seeds: std::ops::Range<u64>, operations: usize, cached: bool) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // The queries set timers, which never run out here.
    let _guard = runtime.enter();
    let mut all = Tally::default();
    let each = operations / usize::try_from(seeds.end - seeds.start).unwrap();
    for seed in seeds {
        let pool = Pool::new(seed);
        let mut world = World::new(&pool, seed, cached);
        (0..each).for_each(|_| world.step());
        let (one, reads) = (world.tally, world.database.lock().reads);
        if one.wrong > 0 {
            println!("seed {seed}: {one:?}");
        }

        all.asked += one.asked;
        all.answered += one.answered;
        all.wrong += one.wrong;
        all.counted += one.counted;
        all.by_id += one.by_id;
        all.finish += one.finish;
        all.more += one.more;
        all.whole_seconds += one.whole_seconds;
        all.unclear += one.unclear;
        all.given_up += one.given_up;
        all.reads += reads;
    }

    println!("{all:?}");
    all
}

fn hold(operations: usize) {
    let tally = run(0..20, operations, true);
    assert_eq!(tally.wrong, 0, "{tally:?}");
    assert!(tally.answered > operations / 10, "{tally:?}");
    assert!(tally.counted > operations / 50 && tally.by_id > operations / 50, "{tally:?}");
    assert!(tally.finish > operations / 100 && tally.more > operations / 100, "{tally:?}");
    assert!(tally.whole_seconds > operations / 1_000, "{tally:?}");
    assert!(tally.unclear + tally.given_up < tally.answered / 4, "{tally:?}");
    // Every failover empties the cache, and failovers are frequent here.
    assert!(tally.reads < tally.asked * 4 / 5, "a fifth at least came from the cache or shared a read: {tally:?}");
}

#[test]
fn cached_answers_are_what_the_store_would_answer() {
    hold(200_000);
}

#[test]
#[ignore = "the long form: make soak"]
fn cached_answers_are_what_the_store_would_answer_in_a_million_operations() {
    hold(1_000_000);
}

#[test]
fn the_oracle_agrees_with_answers_that_were_not_cached() {
    let tally = run(0..4, 20_000, false);
    assert_eq!(tally.wrong, 0, "{tally:?}");
    assert!(tally.reads >= tally.answered, "{tally:?}");
}

fn control(safeguard: Safeguard) {
    let tally = without(Some(safeguard), || run(0..10, 100_000, true));
    assert!(tally.wrong > 10, "the oracle would not notice: {tally:?}");
}

#[test]
fn control_without_ignoring_what_is_older_than_the_last_row() {
    control(Safeguard::IgnoreOlder);
}

#[test]
fn control_without_removals() {
    control(Safeguard::CachedRemovals);
}

#[test]
fn control_without_a_flush_at_the_end_of_an_epoch() {
    control(Safeguard::CacheFlush);
}

#[test]
fn control_without_care_for_what_was_not_counted() {
    control(Safeguard::SureCounts);
}

#[test]
fn control_where_every_page_is_called_all() {
    control(Safeguard::Finish);
}

#[test]
fn control_where_a_page_goes_on_with_a_part_of_a_second() {
    control(Safeguard::WholeSeconds);
}

#[test]
fn control_without_readers_classes() {
    control(Safeguard::ReaderClasses);
}
