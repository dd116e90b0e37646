//! Replaceable and addressable events (NIP-01), rule by rule.

use crate::store_kit::*;
use relay::store::{Outcome, Store};
use relay::types::{Filter, Position};

pub(crate) async fn newest_version_stays(store: &dyn Store) {
    for (n, kind) in [(1, 0), (2, 3), (3, 10002), (4, 19999)] {
        let versions: Vec<_> = [10, 30, 20].iter().map(|at| event(n, kind, *at, &[], "v")).collect();
        assert_eq!(put(store, &versions[0]).await, Outcome::Stored);
        let done = append(store, &[&versions[1]]).await;
        assert_eq!(words(&done.changes), [("replaced", versions[0].id()), ("inserted", versions[1].id())]);
        assert_eq!(put(store, &versions[2]).await, Outcome::Superseded);
        assert_eq!(put(store, &versions[0]).await, Outcome::Superseded);
        let filter = Filter { authors: sorted(&[author(n)]), ..all() };
        assert_eq!(stored(store, &filter).await, [versions[1].id()]);
        let (known, _) = store.known(&[versions[0].id(), versions[1].id()], Position::default()).await.unwrap();
        assert_eq!(known, [false, true]);
    }

    let regular =
        [event(5, 1, 1, &[], ""), event(5, 1, 2, &[], ""), event(5, 9999, 3, &[], ""), event(5, 40000, 4, &[], "")];
    append(store, &regular.iter().collect::<Vec<_>>()).await;
    assert_eq!(stored(store, &Filter { authors: sorted(&[author(5)]), ..all() }).await.len(), 4);
}

pub(crate) async fn equal_versions_the_lowest_id_stays(store: &dyn Store) {
    let (low, high) = twins(1, 0, 10, &[]);
    assert_eq!(put(store, &high).await, Outcome::Stored);
    assert_eq!(put(store, &low).await, Outcome::Stored);
    assert_eq!(put(store, &high).await, Outcome::Superseded);
    assert_eq!(stored(store, &all()).await, [low.id()]);
    let (low, high) = twins(2, 30000, 10, &[tag("d", "x")]);
    let done = append(store, &[&low, &high]).await;
    assert_eq!(done.outcomes, [Outcome::Stored, Outcome::Superseded]);
}

pub(crate) async fn addressable_versions_are_kept_apart_by_d(store: &dyn Store) {
    let events = [
        event(1, 30023, 10, &[tag("d", "a")], ""),
        event(1, 30023, 11, &[tag("d", "b"), tag("d", "a")], ""),
        event(1, 30024, 12, &[tag("d", "a")], ""),
        event(2, 30023, 13, &[tag("d", "a")], ""),
        event(1, 30023, 14, &[], ""),
    ];
    append(store, &events.iter().collect::<Vec<_>>()).await;
    assert_eq!(stored(store, &all()).await.len(), 5);
    let empty = event(1, 30023, 15, &[tag("d", "")], "");
    let done = append(store, &[&empty]).await;
    assert_eq!(words(&done.changes), [("replaced", events[4].id()), ("inserted", empty.id())], "no d is an empty d");
    let newer = event(1, 30023, 16, &[tag("d", "a")], "");
    let done = append(store, &[&newer]).await;
    assert_eq!(words(&done.changes), [("replaced", events[0].id()), ("inserted", newer.id())]);
}

pub(crate) async fn versions_within_one_batch(store: &dyn Store) {
    let versions: Vec<_> = [10, 30, 20, 40].iter().map(|at| event(1, 0, *at, &[tag("t", "x")], "")).collect();
    let done = append(store, &versions.iter().collect::<Vec<_>>()).await;
    assert_eq!(done.outcomes, [Outcome::Stored, Outcome::Stored, Outcome::Superseded, Outcome::Stored]);
    let [v0, v1, _, v3] = [0, 1, 2, 3].map(|n: usize| versions[n].id());
    assert_eq!(
        words(&done.changes),
        [("inserted", v0), ("replaced", v0), ("inserted", v1), ("replaced", v1), ("inserted", v3)]
    );
    let filter = Filter { tags: [tag_filter(b't', &["x"])].into(), ..all() };
    assert_eq!(stored(store, &filter).await, [v3]);
    assert_eq!(stored(store, &all()).await, [v3]);
}
