//! The model of the protocol: several writers, a bus that loses, doubles and reorders, replicas that lag, failovers
//! that cut entries off, a replica of the old primary that still answers, and readers that come, stay and are slow. It
//! drives the real log, the real sequencer and the real queries, one step at a time on one thread. The seed draws the
//! next step, so every failure can be repeated. Afterwards each reader's transcript is compared with the log.
//!
//! Each control ablates one safeguard; the model must then find what breaks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod database;
#[path = "../journey_oracle/oracle.rs"]
mod oracle;
mod reader;
mod world;

use crate::types::safeguard::{Safeguard, without};
use database::EventPool;
use world::ModelWorld;

/// Runs seeds until some have failed. Every second one has failovers.
fn failures(pool: &EventPool, seeds: impl Iterator<Item = u64>, most: usize) -> Vec<(u64, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // The queries set timers, which never fire here.
    let _guard = runtime.enter();
    seeds.filter_map(|seed| ModelWorld::new(pool, seed).run().err().map(|why| (seed, why))).take(most).collect()
}

fn explore(seeds: u64, threads: u64) {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || failures(&EventPool::new(), (first..seeds).step_by(threads as usize), 5)))
            .collect();
        for found in all {
            assert_eq!(found.join().unwrap(), [], "seeds and what went wrong");
        }
    });
}

#[test]
fn every_schedule_keeps_the_promises() {
    explore(10_000, 2);
}

#[test]
#[ignore = "minutes on every core: make soak"]
fn a_million_schedules_keep_the_promises() {
    explore(1_000_000, 2);
}

/// To look into one schedule: `SEED=9 cargo test … model::one_schedule -- --ignored`.
#[test]
#[ignore = "for people"]
fn one_schedule() {
    let seed = std::env::var("SEED").map_or(9, |seed| seed.parse().unwrap());
    assert_eq!(failures(&EventPool::new(), [seed].into_iter(), 1), []);
}

fn control(safeguard: Safeguard) {
    let pool = EventPool::new();
    let found = without(Some(safeguard), || failures(&pool, 0..3_000, 1));
    let (seed, why) = found.into_iter().next().unwrap_or_else(|| panic!("nothing goes wrong without {safeguard:?}"));
    println!("without {safeguard:?}, seed {seed}: {why}");
}

macro_rules! controls {
    ($($name:ident: $safeguard:ident;)+) => {$(
        #[test]
        fn $name() {
            control(Safeguard::$safeguard);
        }
    )+};
}

controls! {
    control_without_repair: Repair;
    control_without_poll: Poll;
    control_without_order: Order;
    control_without_pull: Pull;
    control_without_tail: Tail;
    control_without_ignore_older: IgnoreOlder;
    control_without_refetch: Refetch;
    control_without_acknowledged: Acknowledged;
    control_without_primary_head: PrimaryHead;
    control_without_replay: Replay;
    control_without_epochs: Epochs;
    control_without_resubmission: Resubmission;
    control_without_resubmitted_removals: ResubmittedRemovals;
    control_without_seen_before: SeenBefore;
}
