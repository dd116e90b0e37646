//! NIP-62, rule by rule.

use crate::store_kit::*;
use relay::store::rules::Vanish;
use relay::store::{Outcome, Store};
use relay::types::{Event, Filter};
use std::sync::Arc;

fn request(n: u8, created_at: i64) -> Arc<Event> {
    event(n, 62, created_at, &[tag("relay", "ALL_RELAYS")], "")
}

fn wrap(at: i64, to: u8) -> Arc<Event> {
    event(9, 1059, at, &[tag("p", &author(to).to_hex())], "")
}

/// Carries `request` out and returns how many events went in each step.
async fn carry_out(store: &dyn Store, request: &Event, max: usize) -> Vec<usize> {
    let vanish = Vanish::of(request).unwrap();
    let mut steps = Vec::new();
    loop {
        let before = store.head().await.unwrap();
        let done = store.vanish(&vanish, max).await.unwrap();
        assert!(words(&done.changes).iter().all(|(word, _)| *word == "vanished"));
        if done.changes.is_empty() {
            assert_eq!(done.head, before, "where nothing is left and the floor stands, no position is taken");
            return steps;
        }
        assert_eq!(done.head.position, before.position.next());
        steps.push(done.changes.len());
    }
}

pub(crate) async fn a_vanished_key_is_gone_and_stays_out(store: &dyn Store) {
    let note = event(1, 1, 10, &[tag("t", "x"), tag("p", &author(2).to_hex())], "");
    let profile = event(1, 0, 20, &[], "");
    let article = event(1, 30023, 20, &[tag("d", "x")], "");
    let removal = deletion(1, 15, &[tag("e", &"0".repeat(64))]);
    let (to_them, to_others) = (wrap(12, 1), wrap(12, 3));
    let newer = event(1, 1, 31, &[], "after the request's second");
    let newer_wrap = wrap(31, 1);
    let others = event(2, 1, 10, &[tag("p", &author(1).to_hex())], "mentions them");
    let all_of_them = [&note, &profile, &article, &removal, &to_them, &to_others, &newer, &newer_wrap, &others];
    append(store, &all_of_them).await;

    let request = request(1, 30);
    assert_eq!(put(store, &request).await, Outcome::Stored);
    assert_eq!(carry_out(store, &request, 2).await.iter().sum::<usize>(), 5);
    let left = [&newer_wrap, &newer, &request, &to_others, &others];
    let mut left: Vec<_> = left.iter().map(|event| key(event)).collect();
    left.sort_by_key(|key| key.order());
    assert_eq!(stored(store, &all()).await, left.iter().map(|key| key.id).collect::<Vec<_>>());
    let by_tag = Filter { tags: [tag_filter(b't', &["x"])].into(), ..all() };
    assert!(stored(store, &by_tag).await.is_empty());

    for old in [&note, &profile, &article, &removal, &to_them, &event(1, 1, 30, &[], "at the request's second")] {
        assert_eq!(put(store, old).await, Outcome::Vanished, "kind {}", old.kind().0);
    }
    assert_eq!(put(store, &request).await, Outcome::Duplicate);
    for fresh in [&event(1, 1, 32, &[], ""), &event(1, 0, 31, &[], ""), &event(1, 30023, 31, &[tag("d", "x")], "")] {
        assert_eq!(put(store, fresh).await, Outcome::Stored, "kind {}", fresh.kind().0);
    }
    assert_eq!(put(store, &wrap(13, 3)).await, Outcome::Stored);
}

pub(crate) async fn a_later_request_to_vanish_reaches_further(store: &dyn Store) {
    let (first, second) = (request(1, 30), request(1, 50));
    let between = event(1, 1, 40, &[], "");
    append(store, &[&first, &between]).await;
    assert!(carry_out(store, &first, 10).await.is_empty());
    append(store, &[&second]).await;
    // The earlier request is an event like any other.
    assert_eq!(carry_out(store, &second, 10).await, [2]);
    assert_eq!(stored(store, &all()).await, [second.id()]);
    assert_eq!(put(store, &first).await, Outcome::Vanished);
    assert_eq!(put(store, &request(1, 20)).await, Outcome::Vanished, "the floor does not sink");
    assert_eq!(put(store, &event(1, 1, 50, &[], "")).await, Outcome::Vanished);
}

pub(crate) async fn a_request_to_vanish_within_one_batch(store: &dyn Store) {
    let before = event(1, 1, 10, &[], "before");
    let after = event(1, 1, 11, &[], "after");
    let newer = event(1, 1, 31, &[], "newer");
    let request = request(1, 30);
    let done = append(store, &[&before, &request, &after, &newer]).await;
    use Outcome::*;
    assert_eq!(done.outcomes, [Stored, Stored, Vanished, Stored]);
    assert_eq!(carry_out(store, &request, 10).await, [1]);
    assert_eq!(stored(store, &all()).await, [newer.id(), request.id()]);
}

pub(crate) async fn nothing_deletes_a_request_to_vanish(store: &dyn Store) {
    let request = request(1, 30);
    append(store, &[&request]).await;
    assert_eq!(put(store, &deletion(1, 40, &[e(&request)])).await, Outcome::Stored);
    assert_eq!(put(store, &deletion(1, 41, &[a(1, 62, "")])).await, Outcome::Stored);
    assert!(stored(store, &all()).await.contains(&request.id()));
    assert_eq!(put(store, &event(1, 1, 10, &[], "")).await, Outcome::Vanished);
}

pub(crate) async fn the_operator_lets_a_key_vanish(store: &dyn Store) {
    let note = event(1, 1, 10, &[], "");
    append(store, &[&note]).await;
    let order = |n: u8| Vanish { pubkey: author(n), up_to: 30, request: None };
    assert_eq!(store.vanish(&order(1), 10).await.unwrap().changes.len(), 1);
    assert_eq!(put(store, &note).await, Outcome::Vanished);
    // Also a key of which nothing is stored.
    assert!(store.vanish(&order(2), 10).await.unwrap().changes.is_empty());
    assert_eq!(put(store, &event(2, 1, 30, &[], "")).await, Outcome::Vanished);
    assert_eq!(put(store, &event(2, 1, 31, &[], "")).await, Outcome::Stored);
    assert_eq!(put(store, &event(3, 1, 10, &[], "")).await, Outcome::Stored);
}
