//! Failovers, as the ring and the subscriptions see them.

use super::tests::{at, drain_all, entry, event, live_ids, metrics, of_kind, removal, subscription};
use super::{EntryFate, Log, OutOfReach};
use crate::outbox::{Delivery, Item, Subscription};
use crate::store::SharedHead;
use crate::types::safeguard::{Safeguard, without};
use crate::types::{Epoch, Event, EventId, Head, Position, Refusal};
use std::sync::Arc;

const RING_BYTES: usize = 1 << 20;

fn of_epoch(epoch: u64, position: u64) -> Head {
    Head { epoch: Epoch(epoch), position: Position(position) }
}

/// The epoch after `previous`, which has everything up to `base`.
fn after(previous: u64, base: u64) -> SharedHead {
    SharedHead { head: of_epoch(previous + 1, base), base: Position(base), previous: Epoch(previous) }
}

fn events(count: u64) -> Vec<Arc<Event>> {
    (1..=count).map(|salt| event(1, salt)).collect()
}

/// A log of one event an entry.
fn log_of(events: &[Arc<Event>]) -> Arc<Log> {
    let log = Log::new(Head::default(), RING_BYTES, metrics());
    apply(&log, 1, events);
    log
}

fn apply(log: &Log, from: u64, events: &[Arc<Event>]) {
    for (position, event) in (from..).zip(events) {
        log.apply(&entry(position, std::slice::from_ref(event))).expect("contiguous");
    }
}

fn ids(events: &[Arc<Event>]) -> Vec<EventId> {
    events.iter().map(|event| event.id()).collect()
}

fn was_closed(items: &[Item], why: Refusal) -> bool {
    items.iter().any(|item| matches!(item, Item::Ended(_, refusal) if *refusal == why))
}

fn behind(log: &Log, max_events: usize) -> Arc<Subscription> {
    let subscription = subscription(of_kind(1), max_events);
    log.open(&subscription, at(0));
    assert!(matches!(*subscription.delivery(), Delivery::Behind(_)));
    subscription
}

/// Ten entries, of which the new epoch lacks the last three; then these come again, and a new one.
fn fail_over(log: &Log, all: &[Arc<Event>]) {
    let lost = log.switch_epoch(after(0, 7));
    assert_eq!(lost.iter().map(|entry| entry.position.0).collect::<Vec<_>>(), [8, 9, 10]);
    assert_eq!(log.head(), of_epoch(1, 7));
    apply(log, 8, &[all[7..10].to_vec(), all[10..].to_vec()].concat());
}

fn what_a_live_subscription_gets() -> Vec<EventId> {
    let all = events(11);
    let log = log_of(&[]);
    let subscription = subscription(of_kind(1), 100);
    log.open(&subscription, at(0));
    apply(&log, 1, &all[..10]);
    fail_over(&log, &all);
    live_ids(&drain_all(&log, &subscription.outbox))
}

#[test]
fn what_comes_again_after_a_failover_is_not_sent_twice() {
    assert_eq!(what_a_live_subscription_gets(), ids(&events(11)));
}

#[test]
fn control_without_that_memory_it_is() {
    let got = without(Some(Safeguard::SeenBefore), what_a_live_subscription_gets);
    assert_eq!(got.len(), 14);
}

/// The price that decision 0008 names: the relay does not track which subscription got an event and which did not.
#[test]
fn an_event_whose_removal_a_failover_undoes_is_sent_to_new_subscriptions_only() {
    let all = events(1);
    let log = log_of(&[]);
    let [early, late] = [(); 2].map(|()| subscription(of_kind(1), 100));
    log.open(&early, at(0));
    apply(&log, 1, &all);
    log.apply(&removal(2, &all[0])).expect("contiguous");
    log.switch_epoch(after(0, 0));
    log.open(&late, log.head());
    apply(&log, 1, &all);
    assert_eq!(live_ids(&drain_all(&log, &early.outbox)), []);
    assert_eq!(live_ids(&drain_all(&log, &late.outbox)), ids(&all));
}

#[test]
fn whoever_comes_after_the_failover_is_sent_what_comes_again() {
    let all = events(11);
    let log = log_of(&all[..10]);
    let lost = log.switch_epoch(after(0, 7));
    assert_eq!(lost.len(), 3);
    let late = subscription(of_kind(1), 100);
    log.open(&late, log.head());
    apply(&log, 8, &all[7..]);
    assert_eq!(live_ids(&drain_all(&log, &late.outbox)), ids(&all[7..]));
}

#[test]
fn a_slow_subscription_goes_on_if_it_stood_before_the_cut_and_is_closed_if_it_stood_beyond() {
    let all = events(11);
    let log = log_of(&all[..10]);
    let (before, beyond) = (behind(&log, 5), behind(&log, 9));
    fail_over(&log, &all);
    assert_eq!(live_ids(&drain_all(&log, &before.outbox)), ids(&all));
    let items = drain_all(&log, &beyond.outbox);
    assert_eq!(live_ids(&items), ids(&all[..9]));
    assert!(was_closed(&items, Refusal::LogCut));
}

#[test]
fn heads_of_an_earlier_epoch_count_as_far_as_nothing_was_cut_off() {
    let all = events(11);
    let log = log_of(&all[..10]);
    fail_over(&log, &all);
    assert_eq!(log.tail(at(7)).map(|tail| (tail.entries.len(), tail.head)), Ok((4, of_epoch(1, 11))));
    assert_eq!(log.tail(at(8)).map(|tail| tail.head), Err(OutOfReach));
    assert_eq!(log.tail(of_epoch(9, 3)).map(|tail| tail.head), Err(OutOfReach));
    let fates = [at(7), at(8), of_epoch(1, 50), of_epoch(9, 3)].map(|head| log.fate(head));
    assert_eq!(fates, [EntryFate::InLog, EntryFate::CutOff, EntryFate::InLog, EntryFate::UnknownEpoch]);
    assert_eq!(log.tail_of_all(&[at(7), of_epoch(1, 9), at(9)]).map(|tail| tail.head), Err(vec![2]));
    for (head, closed) in [(at(7), false), (at(8), true), (of_epoch(9, 3), true)] {
        let subscription = subscription(of_kind(1), 100);
        log.open(&subscription, head);
        let items = drain_all(&log, &subscription.outbox);
        assert_eq!(was_closed(&items, Refusal::LogCut), closed, "{head:?}");
        assert_eq!(live_ids(&items), if closed { Vec::new() } else { ids(&all[7..]) });
    }
}

#[test]
fn what_was_acknowledged_before_a_failover_is_not_waited_for_and_what_after_is() {
    let log = log_of(&events(10));
    log.acknowledge(at(12));
    log.acknowledge(of_epoch(1, 8));
    assert_eq!(log.acknowledged(), of_epoch(1, 8), "the writer knew of the new epoch first");
    log.switch_epoch(after(0, 7));
    assert_eq!(log.acknowledged(), of_epoch(1, 8));
    log.acknowledge(at(13));
    assert_eq!(log.acknowledged(), of_epoch(1, 8), "that epoch is over");
}

#[test]
fn a_log_that_continues_elsewhere_closes_what_is_open() {
    let all = events(3);
    let log = log_of(&all);
    let open = subscription(of_kind(1), 100);
    log.open(&open, log.head());
    log.restart(SharedHead { head: of_epoch(5, 100), base: Position(90), previous: Epoch(4) });
    assert_eq!(log.fate(of_epoch(4, 1)), EntryFate::Undecidable, "never followed, and over");
    let items = drain_all(&log, &open.outbox);
    assert!(was_closed(&items, Refusal::LogCut));
    assert_eq!(log.tail(at(3)).map(|tail| tail.head), Err(OutOfReach));
    assert_eq!(log.tail(of_epoch(5, 99)).map(|tail| tail.head), Err(OutOfReach));
    assert_eq!(log.tail(of_epoch(5, 100)).map(|tail| tail.head), Ok(of_epoch(5, 100)));
    assert_eq!(log.subscriptions(), (0, 0));
}

#[test]
fn a_cut_before_the_ring_closes_what_is_open() {
    let log = Log::new(Head::default(), 5_000, metrics());
    let open = subscription(of_kind(1), 1_000);
    log.open(&open, at(0));
    apply(&log, 1, &events(100));
    assert!(log.floor() > Position(7));
    log.switch_epoch(after(0, 7));
    assert_eq!(log.head(), of_epoch(1, 7));
    assert!(was_closed(&drain_all(&log, &open.outbox), Refusal::LogCut));
}

#[test]
fn what_a_late_read_left_out_may_be_back_after_a_failover() {
    for whole in [true, false] {
        let log = Log::new(Head::default(), RING_BYTES, metrics());
        for (position, event) in (1..).zip(&events(4)) {
            let mut entry = entry(position, std::slice::from_ref(event));
            entry.whole = whole || position != 2;
            log.apply(&entry).unwrap();
        }
        assert!(log.tail(at(1)).is_ok());
        log.switch_epoch(after(0, 3));
        assert_eq!(log.tail(at(1)).is_ok(), whole, "the ring goes on from before it");
        assert_eq!(log.tail(at(2)).unwrap().entries.len(), 1);
    }
}
