//! The ring and the deliveries, on a log without a store.

use super::{Hole, Log, OutOfReach};
use crate::memory::ClientMemory;
use crate::outbox::{Delivery, Item, Outbox, OutboxLimits, Subscription};
use crate::telemetry::Metrics;
use crate::types::{
    Change, Event, EventId, Filter, Head, Insertion, Kind, LogEntry, Position, PublicKey, Refusal, Removal,
    RemovalCause, SubscriptionId,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

const RING_BYTES: usize = 1 << 20;

pub(super) fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::detached())
}

pub(super) fn event(kind: u16, salt: u64) -> Arc<Event> {
    let pubkey = PublicKey::from_bytes([1; 32]);
    Arc::new(Event::build(pubkey, 1, Kind(kind), &[vec!["salt".to_owned(), salt.to_string()]], "", |_| [0; 64]))
}

pub(super) fn entry(position: u64, events: &[Arc<Event>]) -> LogEntry {
    let changes = events.iter().map(|event| Change::Inserted(Insertion::new(event.clone())));
    LogEntry::new(Position(position), changes.collect::<Vec<_>>())
}

pub(super) fn removal(position: u64, event: &Arc<Event>) -> LogEntry {
    let removal = Removal { event: event.clone(), cause: RemovalCause::Deleted };
    LogEntry::new(Position(position), [Change::Removed(removal)])
}

pub(super) fn at(position: u64) -> Head {
    Head { position: Position(position), ..Head::default() }
}

pub(super) fn of_kind(kind: u16) -> Arc<[Filter]> {
    [Filter { kinds: Some([Kind(kind)].into()), ..Filter::default() }].into()
}

pub(super) fn subscription(filters: Arc<[Filter]>, max_events: usize) -> Arc<Subscription> {
    let outbox = Outbox::new(OutboxLimits { max_events, max_bytes: usize::MAX }, ClientMemory::unbounded().connect());
    Subscription::new(SubscriptionId("s".into()), filters, outbox)
}

/// What a connection's writer does once: take everything, and replay what fell behind.
fn drain(log: &Log, outbox: &Outbox) -> Vec<Item> {
    let mut items = Vec::new();
    outbox.take(&mut items, usize::MAX, usize::MAX);
    outbox.replay(|subscription| log.catch_up(subscription));
    items
}

pub(super) fn drain_all(log: &Log, outbox: &Outbox) -> Vec<Item> {
    let mut all = Vec::new();
    loop {
        let items = drain(log, outbox);
        if items.is_empty() {
            return all;
        }
        all.extend(items);
    }
}

pub(super) fn live_ids(items: &[Item]) -> Vec<EventId> {
    let live = items.iter().filter_map(|item| match item {
        Item::Live { insertion, .. } if !insertion.is_dead() => Some(insertion.event.id()),
        _ => None,
    });
    live.collect()
}

#[test]
fn the_ring_refuses_a_hole_and_ignores_what_it_has() {
    let log = Log::new(at(10), RING_BYTES, metrics());
    assert_eq!(log.apply(&entry(12, &[event(1, 0)])), Err(Hole { expected: Position(11), got: Position(12) }));
    log.apply(&entry(11, &[event(1, 1)])).expect("the next entry");
    log.apply(&entry(11, &[event(1, 2)])).expect("an echo is ignored");
    assert_eq!(log.head().position, Position(11));
    let tail = log.tail(at(10)).expect("the ring reaches back to its floor");
    assert_eq!((tail.entries.len(), tail.head.position), (1, Position(11)));
    assert_eq!(log.tail(at(9)).map(|tail| tail.entries.len()), Err(OutOfReach));
}

#[test]
fn the_ring_is_bounded_and_keeps_the_newest() {
    let log = Log::new(Head::default(), 10_000, metrics());
    for position in 1..=1_000 {
        log.apply(&entry(position, &[event(1, position)])).expect("contiguous");
    }
    let facts = log.ring_facts();
    assert!(facts.bytes <= 10_000, "{facts:?}");
    assert!(facts.floor > Position(900) && facts.floor < Position(1_000), "{facts:?}");
    assert_eq!(log.tail(at(facts.floor.0)).map(|tail| tail.entries.len() as u64), Ok(1_000 - facts.floor.0));
}

#[test]
fn a_subscription_gets_what_came_after_its_position_and_then_live_each_once() {
    let log = Log::new(Head::default(), RING_BYTES, metrics());
    let events: Vec<_> = (0..6).map(|salt| event(1, salt)).collect();
    log.apply(&entry(1, &events[0..1])).expect("contiguous");
    log.apply(&entry(2, &events[1..3])).expect("contiguous");
    let subscription = subscription(of_kind(1), 100);
    log.open(&subscription, at(1));
    log.apply(&entry(3, &events[3..6])).expect("contiguous");
    let expected: Vec<_> = events[1..].iter().map(|event| event.id()).collect();
    assert_eq!(live_ids(&drain_all(&log, &subscription.outbox)), expected);
}

#[test]
fn a_full_outbox_is_replayed_from_the_ring_in_order() {
    let log = Log::new(Head::default(), RING_BYTES, metrics());
    let subscription = subscription(of_kind(1), 3);
    log.open(&subscription, at(0));
    let mut expected = Vec::new();
    for position in 1..=50_u64 {
        let events: Vec<_> = (0..5).map(|index| event(1 + (index % 2) as u16, position * 10 + index)).collect();
        expected.extend(events.iter().filter(|event| event.kind() == Kind(1)).map(|event| event.id()));
        log.apply(&entry(position, &events)).expect("contiguous");
    }
    assert!(matches!(*subscription.delivery(), Delivery::Behind(_)));
    assert_eq!(live_ids(&drain_all(&log, &subscription.outbox)), expected);
    assert!(matches!(*subscription.delivery(), Delivery::Live(_)));
}

#[test]
fn whoever_falls_behind_the_ring_is_told_so() {
    let log = Log::new(Head::default(), 5_000, metrics());
    let subscription = subscription(of_kind(1), 1);
    log.open(&subscription, at(0));
    for position in 1..=100 {
        log.apply(&entry(position, &[event(1, position)])).expect("contiguous");
    }
    let items = drain_all(&log, &subscription.outbox);
    let is_closed =
        |item: &Item| matches!(item, Item::Ended(ended, Refusal::TooSlow) if Arc::ptr_eq(ended, &subscription));
    assert!(items.iter().any(is_closed));
    assert!(subscription.settle_end() && subscription.is_closed() && !subscription.settle_end());
    assert_eq!(log.subscriptions(), (0, 0), "the matcher has let go of it");
}

#[test]
fn a_quiet_subscription_is_not_behind_because_its_last_match_was_long_ago() {
    let log = Log::new(Head::default(), 5_000, metrics());
    let subscription = subscription(of_kind(1), 1);
    log.open(&subscription, at(0));
    for position in 1..=100 {
        log.apply(&entry(position, &[event(2, position)])).expect("contiguous");
    }
    let (first, second) = (event(1, 1), event(1, 2));
    log.apply(&entry(101, &[event(2, 0), first.clone(), second.clone()])).expect("contiguous");
    assert_eq!(live_ids(&drain_all(&log, &subscription.outbox)), [first.id(), second.id()]);
}

#[test]
fn a_removed_event_is_dead_in_every_outbox_and_in_every_replay() {
    let log = Log::new(Head::default(), RING_BYTES, metrics());
    let (early, late) = (subscription(of_kind(1), 10), subscription(of_kind(1), 10));
    log.open(&early, at(0));
    let (gone, stays) = (event(1, 1), event(1, 2));
    log.apply(&entry(1, &[gone.clone(), stays.clone()])).expect("contiguous");
    log.apply(&removal(2, &gone)).expect("contiguous");
    log.open(&late, at(0));
    assert_eq!(live_ids(&drain_all(&log, &early.outbox)), [stays.id()]);
    assert_eq!(live_ids(&drain_all(&log, &late.outbox)), [stays.id()]);
    assert_eq!(log.removed_after(at(1)), Ok((vec![gone.id()], at(2))));
}

#[test]
fn a_closed_subscription_gets_nothing_more_and_leaves_the_matcher() {
    let log = Log::new(Head::default(), RING_BYTES, metrics());
    let subscription = subscription(of_kind(1), 10);
    log.open(&subscription, at(0));
    log.forget(&subscription);
    log.apply(&entry(1, &[event(1, 1)])).expect("contiguous");
    log.open(&subscription, at(0));
    assert!(drain_all(&log, &subscription.outbox).is_empty());
    assert_eq!(log.subscriptions(), (0, 0));
}

#[test]
fn ephemeral_events_reach_who_is_live_and_are_kept_nowhere() {
    let log = Log::new(Head::default(), RING_BYTES, metrics());
    let (live, held) = (subscription(of_kind(20_001), 10), subscription(of_kind(20_001), 10));
    log.open(&live, at(0));
    let event = event(20_001, 1);
    assert_eq!(log.broadcast(event.clone()), 1);
    log.open(&held, at(0));
    assert_eq!(live_ids(&drain_all(&log, &live.outbox)), [event.id()]);
    assert!(drain_all(&log, &held.outbox).is_empty());
}

/// A follower, and subscribers that open and drain at random moments, on real threads: each gets its matches once, in
/// order.
#[test]
fn opening_and_draining_race_with_the_follower_and_lose_nothing() {
    const ENTRIES: u64 = 3_000;
    let log = Log::new(Head::default(), 1 << 30, metrics());
    let entries: Vec<LogEntry> = (1..=ENTRIES)
        .map(|position| {
            let events: Vec<_> =
                (0..position % 4).map(|salt| event(1 + (salt % 2) as u16, position * 10 + salt)).collect();
            entry(position, if events.is_empty() { std::slice::from_ref(&NOISE) } else { &events })
        })
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| entries.iter().for_each(|entry| log.apply(entry).expect("contiguous")));
        for seed in 0..4 {
            let (log, entries) = (&log, &entries);
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed);
                while log.head().position.0 < ENTRIES {
                    let subscription = subscription(of_kind(1), rng.random_range(1..20));
                    let from = log.head().position;
                    log.open(&subscription, at(from.0));
                    let mut got = Vec::new();
                    let until = (from.0 + rng.random_range(1..500)).min(ENTRIES);
                    while log.head().position.0 < until {
                        got.extend(live_ids(&drain(log, &subscription.outbox)));
                    }
                    got.extend(live_ids(&drain_all(log, &subscription.outbox)));
                    log.forget(&subscription);
                    // The follower may have moved on during the drain: the transcript must be a beginning without gaps
                    // that reaches at least to `until`.
                    let expected = |upto: u64| expected_ids(entries, from.0, upto);
                    let all = expected(ENTRIES);
                    // The head moves before its own entry is delivered; so everything before the head was delivered.
                    assert!(got.len() >= expected(until - 1).len(), "seed {seed}: lost the end");
                    assert_eq!(got, all[..got.len()], "seed {seed}: from {from:?}");
                }
            });
        }
    });
}

static NOISE: std::sync::LazyLock<Arc<Event>> = std::sync::LazyLock::new(|| event(9, 9));

fn expected_ids(entries: &[LogEntry], after: u64, upto: u64) -> Vec<EventId> {
    let changes = entries.iter().filter(|entry| entry.position.0 > after && entry.position.0 <= upto);
    let inserted = changes.flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
        Change::Inserted(insertion) if insertion.event.kind() == Kind(1) => Some(insertion.event.id()),
        _ => None,
    });
    inserted.collect()
}
