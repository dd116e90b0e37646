//! An answer that is brought up to date by the entries that may concern it equals one that is brought up to date by
//! all, over random logs with removals, entries that are not whole, failovers and a moving floor.

use super::tests::metrics;
use super::{Log, OutOfReach};
use crate::cache::{Answer, CanonicalQuery, Count, FilterKey, ReaderClass, Snapshot};
use crate::store::SharedHead;
use crate::types::safeguard::{Safeguard, without};
use crate::types::{
    Change, Epoch, Event, Filter, Head, Insertion, Kind, LogEntry, Position, PublicKey, Removal, RemovalCause, Row,
    TagFilter,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

const LOGS: u64 = 60;
const STEPS: usize = 200;
const AUTHORS: u8 = 5;
const KINDS: u16 = 3;
const VALUES: [&str; 3] = ["a", "b", "c"];

struct RandomLog {
    random: StdRng,
    log: Arc<Log>,
    stored: Vec<Arc<Event>>,
    made: i64,
}

fn author(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

impl RandomLog {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        // Small enough that the floor moves, in most of them.
        let log = Log::new(Head::default(), random.random_range(20_000..200_000), metrics());
        Self { random, log, stored: Vec::new(), made: 0 }
    }

    fn event(&mut self) -> Arc<Event> {
        self.made += 1;
        let mut tags = Vec::new();
        for _ in 0..self.random.random_range(0..3) {
            let value = VALUES[self.random.random_range(0..VALUES.len())];
            tags.push(vec![if self.random.random_bool(0.7) { "t" } else { "e" }.to_owned(), value.to_owned()]);
        }
        let (by, kind) = (author(self.random.random_range(1..=AUTHORS)), Kind(self.random.random_range(1..=KINDS)));
        Arc::new(Event::build(by, self.made, kind, &tags, "", |_| [0; 64]))
    }

    fn change(&mut self) -> Change {
        if !self.stored.is_empty() && self.random.random_bool(0.3) {
            let at = self.random.random_range(0..self.stored.len());
            let event = self.stored.swap_remove(at);
            return Change::Removed(Removal { event, cause: RemovalCause::Deleted });
        }
        let event = self.event();
        self.stored.push(event.clone());
        Change::Inserted(Insertion::new(event))
    }

    fn step(&mut self) {
        let head = self.log.head();
        match self.random.random_range(0..100) {
            0 => {
                let back = self.random.random_range(0..5).min(head.position.0);
                let base = Position(head.position.0 - back);
                let to = Head { epoch: Epoch(head.epoch.0 + 1), position: base };
                self.log.switch_epoch(SharedHead { head: to, base, previous: head.epoch });
            }
            1 => {
                let to = Head { epoch: Epoch(head.epoch.0 + 1), position: Position(head.position.0 + 10) };
                self.log.restart(SharedHead { head: to, base: head.position, previous: head.epoch });
            }
            _ => {
                let changes: Vec<_> = (0..self.random.random_range(1..4)).map(|_| self.change()).collect();
                let whole = self.random.random_bool(0.97);
                let entry = LogEntry { whole, ..LogEntry::new(head.position.next(), changes) };
                self.log.apply(&entry).expect("contiguous");
            }
        }
    }

    fn filter(&mut self) -> Filter {
        let mut filter = Filter::default();
        if self.random.random_bool(0.5) {
            let first = self.random.random_range(1..=AUTHORS);
            filter.authors = Some((first..=self.random.random_range(first..=AUTHORS)).map(author).collect());
        }
        if self.random.random_bool(0.5) {
            filter.kinds = Some([Kind(self.random.random_range(1..=KINDS))].into());
        }
        if self.random.random_bool(0.4) {
            let value = VALUES[self.random.random_range(0..VALUES.len())];
            filter.tags = [TagFilter { letter: b't', values: [value.into()].into() }].into();
        }
        if self.random.random_bool(0.1)
            && let Some(event) = self.stored.last()
        {
            filter.ids = Some([event.id()].into());
        }
        filter
    }

    /// A page or a count as of a random head that the ring reaches back to. Its rows are any part of what is stored.
    fn answer(&mut self, filters: &[Filter]) -> (FilterKey, Answer) {
        let (head, floor) = (self.log.head(), self.log.floor());
        let head = Head { position: Position(self.random.random_range(floor.0..=head.position.0)), ..head };
        let reader = ReaderClass::Everyone;
        if self.random.random_bool(0.5) {
            let count = Count { head, number: 1_000, counted_at: 0, until: None };
            return (FilterKey { query: CanonicalQuery::Count(filters.into()), reader }, Answer::Count(count));
        }
        let selected = self.stored.iter().filter(|event| filters[0].matches(event));
        let mut rows: Vec<Row> = selected.map(|event| Row::from(&**event)).collect();
        rows.sort_by_key(|row| row.key.order());
        let limit = self.random.random_range(1..30);
        let complete = rows.len() <= limit;
        rows.truncate(limit);
        let page = Snapshot { head, limit, rows: rows.into(), complete, read_at: 0 };
        (FilterKey { query: CanonicalQuery::Rows(filters[0].clone()), reader }, Answer::Rows(Arc::new(page)))
    }

    /// Compares the two ways; returns how many entries each looked at.
    fn compare(&mut self) -> Result<(usize, usize), String> {
        let filters: Vec<_> = (0..self.random.random_range(1..3)).map(|_| self.filter()).collect();
        let (key, answer) = self.answer(&filters);
        let (from, filters) = (answer.head(), key.filters());
        let all = self.log.tail(from).map_err(|error| error.to_string())?;
        let some = self.log.tail_concerning(from, filters).map_err(|error| error.to_string())?;
        let (by_all, by_some) =
            (answer.clone().advance(&key, &all.entries, all.head), answer.advance(&key, &some.entries, some.head));
        if by_all != by_some {
            return Err(format!("{key:?}: {by_all:?} by the walk, {by_some:?} by the index"));
        }
        Ok((all.entries.len(), some.entries.len()))
    }
}

fn histories() -> Result<(usize, usize), String> {
    let (mut walked, mut looked_at) = (0, 0);
    for seed in 0..LOGS {
        let mut world = RandomLog::new(seed);
        for _ in 0..STEPS {
            world.step();
            let (all, some) = world.compare().map_err(|why| format!("seed {seed}: {why}"))?;
            walked += all;
            looked_at += some;
        }
    }
    Ok((walked, looked_at))
}

#[test]
fn what_concerns_an_answer_is_all_it_needs() {
    let (walked, looked_at) = histories().unwrap();
    println!("{looked_at} of {walked} entries");
    // Of five authors and three kinds most filters name many.
    assert!(looked_at * 4 < walked * 3, "{looked_at} of {walked}");
}

#[test]
fn control_an_entry_that_is_not_whole_concerns_every_answer() {
    assert!(without(Some(Safeguard::PartialEntries), histories).is_err());
}

#[test]
fn what_the_ring_drops_the_index_drops() {
    let mut world = RandomLog::new(1);
    for _ in 0..2_000 {
        world.step();
    }
    let everything = Filter { kinds: Some((1..=KINDS).map(Kind).collect()), ..Filter::default() };
    let (head, floor) = (world.log.head(), world.log.floor());
    let from = Head { position: floor, ..head };
    let tail = world.log.tail_concerning(from, &[everything]).unwrap();
    assert!(tail.entries.len() as u64 <= head.position.0 - floor.0);
    let before = Head { position: Position(floor.0.saturating_sub(1)), ..head };
    assert_eq!(world.log.tail_concerning(before, &[]).map(|_| ()), Err(OutOfReach));
}
