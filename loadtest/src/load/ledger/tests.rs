use super::*;
use crate::events::{Random, Zipf};
use crate::load::options::Gathering;

/// A ledger of three connections that subscribe to everything, and a timeline of `events` events.
fn ledger(events: usize) -> (Ledger, Timeline) {
    let timeline = Timeline::default();
    let planned = |number: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        Planned::new(id, String::new(), (0, 1, 0), Vec::new(), 0)
    };

    for first in (0..events).step_by(CHUNK) {
        assert!(timeline.push((first..events.min(first + CHUNK)).map(planned).collect()));
    }
    let keys = ["0".repeat(64)].into_iter().collect::<Vec<_>>().into();
    let people = Zipf::new(1, 1.0);
    let subscribes = [true; 3];
    let subscriber_plan =
        SubscriberPlan::new(Gathering::Everyone, (keys, &people), &subscribes, 3, &mut Random::new(1));
    let mut ledger = Ledger::new(subscriber_plan, &subscribes, &[false; 3], 100);

    assert_eq!(ledger.take_up_to(usize::MAX, &timeline), Err(false));
    for slot in [0, 2, 4] {
        ledger.opened(slot);
        assert!(ledger.caught_up(slot));
    }
    (ledger, timeline)
}

/// Event `number` is sent and accepted.
fn publish(ledger: &mut Ledger, number: u64, now: u64) {
    ledger.sent((number as usize / CHUNK, number as usize % CHUNK), (0, 0), now, now);
    assert_eq!(ledger.answered(0, number + 1, PublishOutcome::Accepted, now + 1), Some(now));
}

#[test]
fn what_comes_once_is_delivered_and_what_does_not_is_lost() {
    let (mut ledger, timeline) = ledger(2);
    publish(&mut ledger, 0, 10);
    assert_eq!(ledger.outstanding(), 3);
    for (slot, now) in [(0, 20), (2, 111)] {
        assert_eq!(ledger.delivered(slot, 1, now, &timeline), Delivery::Live { intended: 10, via: 0 });
    }
    assert_eq!(ledger.delivered(0, 1, 30, &timeline), Delivery::Fault);
    assert_eq!(ledger.outstanding(), 1);
    ledger.settle(0, true);
    let Totals { due, delivered, lost, doubled, late, .. } = ledger.totals;
    assert_eq!((due, delivered, lost, doubled, late), (3, 2, 1, 1, 1));
    assert_eq!(ledger.take_kept().len(), 1);
    // Its account is settled: a delivery that comes now is a foreign one.
    ledger.delivered(4, 1, 40, &timeline);
    assert_eq!(ledger.totals.foreign, 1);
}

#[test]
fn order_is_what_an_ok_before_a_sending_proves() {
    let (mut ledger, timeline) = ledger(3);
    // The OK of the first comes before the second is sent; the third is sent at the same time as the second.
    publish(&mut ledger, 0, 10);
    ledger.sent((0, 1), (0, 0), 20, 20);
    ledger.sent((0, 2), (0, 0), 21, 21);
    ledger.answered(0, 2, PublishOutcome::Accepted, 30);
    ledger.answered(0, 3, PublishOutcome::Accepted, 30);
    for id in [3, 2] {
        ledger.delivered(0, id, 40, &timeline);
    }
    assert_eq!(ledger.totals.out_of_order, 0, "events under way together have no order");
    ledger.delivered(0, 1, 50, &timeline);
    assert_eq!(ledger.totals.out_of_order, 1);
}

#[test]
fn a_connection_that_broke_proves_no_order() {
    let (mut ledger, timeline) = ledger(2);
    ledger.sent((0, 0), (0, 0), 10, 10);
    ledger.broke(0, 15);
    publish(&mut ledger, 1, 20);
    for slot in [1, 2].map(|connection| connection * SLOTS) {
        ledger.opened(slot);
        ledger.caught_up(slot);
        for id in [2, 1] {
            ledger.delivered(slot, id, 40, &timeline);
        }
    }
    assert_eq!(ledger.totals.out_of_order, 0);
}

#[test]
fn a_subscription_opened_again_catches_up_and_a_closed_one_is_owed_nothing() {
    let (mut ledger, timeline) = ledger(2);
    publish(&mut ledger, 0, 10);
    publish(&mut ledger, 1, 20);
    ledger.delivered(0, 1, 30, &timeline);
    ledger.broke(0, 40);
    ledger.opened(0);
    assert_eq!(ledger.delivered(0, 1, 50, &timeline), Delivery::Again);
    assert_eq!(ledger.delivered(0, 2, 50, &timeline), Delivery::CaughtUp);
    assert_eq!(ledger.delivered(0, 2, 50, &timeline), Delivery::Fault, "twice within one answer");
    ledger.caught_up(0);
    ledger.delivered(2, 1, 60, &timeline);
    ledger.delivered(2, 2, 60, &timeline);
    assert!(ledger.closed(4));
    ledger.settle(0, true);
    let Totals { due, delivered, lost, caught_up, doubled, excused_offline, .. } = ledger.totals;
    assert_eq!((due, delivered, lost, caught_up, doubled, excused_offline), (4, 4, 0, 1, 1, 2));
}

#[test]
fn oks_are_held_against_what_was_sent() {
    let (mut ledger, _) = ledger(3);
    publish(&mut ledger, 0, 10);
    assert_eq!(ledger.answered(0, 1, PublishOutcome::Accepted, 20), None);
    assert_eq!(ledger.answered(0, 2, PublishOutcome::Accepted, 20), None);
    ledger.sent((0, 1), (1, 0), 20, 20);
    assert_eq!(ledger.answered(0, 2, PublishOutcome::Accepted, 20), None, "another connection's");
    ledger.sent((0, 2), (2, 0), 20, 20);
    ledger.broke(2, 30);
    ledger.settle(0, true);
    let Totals { sent, accepted, answered_again, answers_to_nothing, unanswered, unknown, .. } = ledger.totals;
    assert_eq!((sent, accepted, answered_again, answers_to_nothing, unanswered, unknown), (3, 1, 1, 2, 1, 1));
}

#[test]
fn settled_accounts_are_forgotten() {
    let (mut ledger, timeline) = ledger(3 * CHUNK);
    for number in 0..2 * CHUNK as u64 {
        publish(&mut ledger, number, 100 + number);
    }
    ledger.settle(100 + CHUNK as u64, false);
    assert_eq!((ledger.accounts.len(), ledger.numbers.len()), (2, 2 * CHUNK));
    ledger.settle(u64::MAX, false);
    assert_eq!(ledger.accounts.len(), 1, "what was not sent is not over");
    timeline.trim(1);
    assert!(timeline.chunk(1).is_err() && timeline.chunk(2).is_ok());
    assert_eq!(ledger.totals.lost, 2 * 3 * CHUNK as u64);
}
