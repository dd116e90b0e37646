//! Which of the waiting rows and subscriptions gets the room that sending frees.
#![allow(clippy::unwrap_used)]

use super::{Delivery, Item, Outbox, OutboxLimits, Place, RingGeneration, Subscription};
use crate::memory::ClientMemory;
use crate::types::{EoseHints, Event, Filter, Insertion, Key, Kind, Position, PublicKey, Refusal, Row, SubscriptionId};
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

const LIMITS: OutboxLimits = OutboxLimits { max_events: 8, max_bytes: usize::MAX };

/// A patience that never runs out.
const FOR_EVER: Duration = Duration::from_secs(1 << 20);

fn subscription(id: &str, outbox: &Arc<Outbox>) -> Arc<Subscription> {
    Subscription::new(SubscriptionId(id.into()), [Filter::default()].into(), outbox.clone())
}

fn insertion(n: u8) -> Arc<Insertion> {
    Insertion::new(Arc::new(Event::build(PublicKey::from_bytes([n; 32]), 1, Kind(1), &[], "", |_| [0; 64])))
}

fn row(n: u8) -> Row {
    let event = &insertion(n).event;
    Row { key: Key { id: event.id(), created_at: 1 }, expires_at: None, text: event.text().clone() }
}

/// Replays a subscription that has missed `missed` events, as far as the outbox has room.
fn replay(subscription: &Arc<Subscription>, missed: &mut usize) {
    while *missed > 0 {
        let item = Item::Live { subscription: subscription.clone(), insertion: insertion(1) };
        if subscription.outbox.try_push(item).is_err() {
            return subscription.outbox.fell_behind(subscription);
        }
        *missed -= 1;
    }
}

/// Takes `take` items at a time. The query that waits with rows is polled once in `every` takes.
fn side_by_side(take: usize, every: usize) {
    let outbox = Outbox::new(LIMITS, ClientMemory::unbounded().connect());
    let (download, live) = (subscription("download", &outbox), subscription("live", &outbox));
    let mut waiting: VecDeque<Row> = (0..1_000).map(|_| row(2)).collect();
    let mut rows = outbox.push_rows(&download, &mut waiting, FOR_EVER).boxed();
    assert!((&mut rows).now_or_never().is_none(), "full");
    outbox.fell_behind(&live);
    let (mut missed, mut sent) = (500, (0, 0));
    let mut pushing = true;
    for turn in 1.. {
        assert!(turn < 3_000 * every, "{sent:?}");
        let mut items = Vec::new();
        outbox.take(&mut items, take, usize::MAX);
        for item in items {
            match item {
                Item::Stored { .. } => sent.0 += 1,
                Item::Live { .. } => sent.1 += 1,
                _ => panic!("nothing else was queued"),
            }
        }

        outbox.replay(|subscription| replay(subscription, &mut missed));
        if turn % every == 0 {
            pushing = pushing && (&mut rows).now_or_never().is_none();
        }
        if turn == 100 * every {
            assert!(sent.0 > 100 && sent.1 > 100, "neither waits for the other: {sent:?}");
        }

        if sent == (1_000, 500) {
            return;
        }
    }
}

/// Runs `test` inside a runtime with timers, which `push_rows` needs.
fn with_timers(test: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _guard = runtime.enter();
    test();
}

#[test]
fn a_download_and_one_that_fell_behind_go_on_side_by_side() {
    with_timers(|| {
        for (take, every) in [(4, 1), (8, 1), (4, 2), (8, 2), (8, 3), (100, 2), (3, 5)] {
            side_by_side(take, every);
        }
    });
}

#[test]
fn a_download_that_is_given_up_keeps_nobody_waiting() {
    with_timers(give_up_a_download);
}

fn give_up_a_download() {
    let outbox = Outbox::new(LIMITS, ClientMemory::unbounded().connect());
    let (download, live) = (subscription("download", &outbox), subscription("live", &outbox));
    let mut waiting: VecDeque<Row> = (0..100).map(|_| row(2)).collect();
    let mut rows = outbox.push_rows(&download, &mut waiting, FOR_EVER).boxed();
    assert!((&mut rows).now_or_never().is_none());
    let (mut missed, mut items) = (500, Vec::new());
    outbox.fell_behind(&live);
    outbox.take(&mut items, 4, usize::MAX);
    assert!(outbox.replay(|subscription| replay(subscription, &mut missed)));
    assert!(!outbox.take(&mut items, 100, usize::MAX).behind, "the rows' turn");
    drop(rows);
    assert!(outbox.ready().now_or_never().is_some());
    assert!(outbox.replay(|subscription| replay(subscription, &mut missed)));
}

#[test]
fn a_closed_that_was_overtaken_is_not_owed() {
    let outbox = Outbox::new(LIMITS, ClientMemory::unbounded().connect());
    let old = subscription("s", &outbox);
    assert!(old.end(Refusal::Overloaded).is_none());
    assert!(old.is_over() && !old.is_closed());
    assert!(old.end(Refusal::Timeout).is_none());
    // The client has given the id to another one.
    old.close();
    let mut items = Vec::new();
    outbox.take(&mut items, 10, usize::MAX);
    assert!(matches!(items.as_slice(), [Item::Ended(ended, Refusal::Overloaded)] if !ended.settle_end()));
    // A subscription that the client has closed gets no CLOSED.
    old.end(Refusal::Timeout);
    assert!(!outbox.take(&mut items, 10, usize::MAX).items && items.len() == 1);
}

#[test]
fn a_closed_outbox_holds_nothing() {
    let outbox = Outbox::new(LIMITS, ClientMemory::unbounded().connect());
    let one = subscription("s", &outbox);
    *one.delivery() = Delivery::Live(Place::end_of(RingGeneration(0), Position(0)));
    for position in 1..20 {
        one.offer(Place { generation: RingGeneration(0), position: Position(position), index: 0 }, &insertion(1), None);
    }
    assert!(Arc::strong_count(&one) > 1);
    outbox.close();
    outbox.fell_behind(&one);
    outbox.end_of_stored(&one, EoseHints::default());
    assert_eq!(Arc::strong_count(&one), 1);
}
