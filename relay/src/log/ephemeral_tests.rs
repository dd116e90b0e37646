//! Ephemeral events that ride with an entry: their place among its changes, and what becomes of them where it waits.

use super::tests::{at, entry, event, live_ids, metrics, subscription};
use super::{Log, Sequencer};
use crate::outbox::Subscription;
use crate::telemetry::EntrySource;
use crate::types::{EphemeralEvent, Epoch, Event, EventId, Filter, LogEntry};
use std::sync::Arc;
use std::time::Instant;

fn with(entry: LogEntry, ephemeral: &[(usize, &Arc<Event>)]) -> LogEntry {
    let place = |(before, event): &(usize, &Arc<Event>)| EphemeralEvent { before: *before, event: (*event).clone() };
    LogEntry { ephemeral: ephemeral.iter().map(place).collect(), ..entry }
}

fn ids(events: &[&Arc<Event>]) -> Vec<EventId> {
    events.iter().map(|event| event.id()).collect()
}

fn to_everything(log: &Log) -> Arc<Subscription> {
    let subscription = subscription([Filter::default()].into(), 100);
    log.open(&subscription, log.head());
    subscription
}

fn came(subscription: &Subscription) -> Vec<EventId> {
    let mut items = Vec::new();
    subscription.outbox.take(&mut items, usize::MAX, usize::MAX);
    live_ids(&items)
}

#[test]
fn each_is_delivered_in_its_place_to_whoever_is_live() {
    let log = Log::new(at(10), 1 << 20, metrics());
    let live = to_everything(&log);
    let [a, b, first, between, last] =
        [(1, 0), (1, 1), (20_001, 2), (20_001, 3), (20_001, 4)].map(|(k, s)| event(k, s));
    let entry = entry(11, &[a.clone(), b.clone()]);
    log.apply(&with(entry, &[(0, &first), (1, &between), (2, &last)])).unwrap();
    assert_eq!(came(&live), ids(&[&first, &a, &between, &b, &last]));

    let late = subscription([Filter::default()].into(), 100);
    log.open(&late, at(10));
    assert_eq!(came(&late), ids(&[&a, &b]), "the ring does not keep them");
}

#[test]
fn they_wait_with_their_entry_and_do_not_depend_on_it() {
    let now = Instant::now();
    let log = Log::new(at(10), 1 << 20, metrics());
    let live = to_everything(&log);
    let mut sequencer = Sequencer::new(log.clone(), metrics(), now);
    let [a, b, c, with_b, after_b, with_c, alone] =
        [(1, 0), (1, 1), (1, 2), (20_001, 3), (20_001, 4), (20_001, 5), (20_001, 6)].map(|(k, s)| event(k, s));

    // The own entry waits for another instance's, and so does what came after it.
    sequencer.offer(EntrySource::Own, Epoch(0), with(entry(12, std::slice::from_ref(&b)), &[(1, &with_b)]), now);
    assert_eq!(sequencer.attach(after_b.clone()).map_err(|event| event.id()), Ok(()));
    assert_eq!(came(&live), []);
    sequencer.offer(EntrySource::Bus, Epoch(0), entry(11, std::slice::from_ref(&a)), now);
    assert_eq!(came(&live), ids(&[&a, &b, &with_b, &after_b]));
    assert!(sequencer.attach(alone).is_err(), "nothing waits any more");

    // The shared log has brought the own entry before its writer did, and knows no ephemeral events.
    sequencer.offer(EntrySource::Log, Epoch(0), entry(13, std::slice::from_ref(&c)), now);
    sequencer.offer(EntrySource::Own, Epoch(0), with(entry(13, std::slice::from_ref(&c)), &[(1, &with_c)]), now);
    assert_eq!(came(&live), ids(&[&c, &with_c]));
}
