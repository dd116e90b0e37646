//! NIP-09, rule by rule.

use crate::store_kit::*;
use relay::store::{Outcome, Store};
use relay::types::Filter;

pub(crate) async fn deletion_by_id(store: &dyn Store) {
    let note = event(1, 1, 10, &[tag("t", "x")], "");
    let profile = event(1, 0, 10, &[], "");
    append(store, &[&note, &profile]).await;
    // A request is older than its targets here: for `e` that does not matter.
    let request = deletion(1, 5, &[e(&note), e(&profile)]);
    let done = append(store, &[&request]).await;
    assert_eq!(words(&done.changes), [("inserted", request.id()), ("deleted", note.id()), ("deleted", profile.id())]);
    assert_eq!(stored(store, &all()).await, [request.id()]);
    assert_eq!(put(store, &note).await, Outcome::Deleted);
    assert_eq!(put(store, &profile).await, Outcome::Deleted);
    assert_eq!(put(store, &request).await, Outcome::Duplicate);
    assert!(stored(store, &Filter { tags: [tag_filter(b't', &["x"])].into(), ..all() }).await.is_empty());
}

pub(crate) async fn deletion_within_one_batch(store: &dyn Store) {
    let old = event(1, 30000, 10, &[tag("d", "x")], "");
    append(store, &[&old]).await;
    let new = event(1, 30000, 20, &[tag("d", "x")], "");
    let request = deletion(1, 30, &[a(1, 30000, "x")]);
    let late = event(1, 30000, 25, &[tag("d", "x")], "");
    let next = event(1, 30000, 40, &[tag("d", "x")], "");
    let done = append(store, &[&new, &request, &late, &next, &old]).await;
    use Outcome::*;
    assert_eq!(done.outcomes, [Stored, Stored, Deleted, Stored, Deleted]);
    assert_eq!(
        words(&done.changes),
        [
            ("replaced", old.id()),
            ("inserted", new.id()),
            ("inserted", request.id()),
            ("deleted", new.id()),
            ("inserted", next.id())
        ]
    );

    assert_eq!(stored(store, &all()).await, [next.id(), request.id()]);
    // A request before its target, in one batch.
    let note = event(1, 1, 10, &[], "");
    let request = deletion(1, 31, &[e(&note)]);
    assert_eq!(append(store, &[&request, &note]).await.outcomes, [Stored, Deleted]);
}

pub(crate) async fn deletion_by_address(store: &dyn Store) {
    let article = event(1, 30023, 20, &[tag("d", "x")], "");
    let other = event(1, 30023, 20, &[tag("d", "y")], "");
    let newer = event(1, 30024, 30, &[tag("d", "x")], "");
    let profile = event(1, 0, 20, &[], "");
    append(store, &[&article, &other, &newer, &profile]).await;
    let request = deletion(1, 25, &[a(1, 30023, "x"), a(1, 30024, "x"), a(1, 0, "")]);
    let done = append(store, &[&request]).await;
    assert_eq!(
        words(&done.changes),
        [("inserted", request.id()), ("deleted", article.id()), ("deleted", profile.id())]
    );

    assert_eq!(put(store, &article).await, Outcome::Deleted);
    assert_eq!(put(store, &event(1, 30023, 24, &[tag("d", "x")], "")).await, Outcome::Deleted);
    assert_eq!(put(store, &event(1, 30023, 25, &[tag("d", "x")], "at the second")).await, Outcome::Deleted);
    assert_eq!(put(store, &event(1, 30023, 26, &[tag("d", "x")], "")).await, Outcome::Stored);
    assert_eq!(put(store, &event(1, 30024, 25, &[tag("d", "x")], "")).await, Outcome::Deleted);

    // An earlier request does not lower the later one's mark.
    assert_eq!(put(store, &deletion(1, 3, &[a(1, 0, "")])).await, Outcome::Stored);
    assert_eq!(put(store, &event(1, 0, 24, &[], "")).await, Outcome::Deleted);
}

pub(crate) async fn deletion_of_a_deletion_does_nothing(store: &dyn Store) {
    let note = event(1, 1, 10, &[], "");
    let first = deletion(1, 20, &[e(&note)]);
    let second = deletion(1, 30, &[e(&first)]);
    let unseen = deletion(1, 21, &[tag("e", &"0".repeat(64))]);
    let third = deletion(1, 31, &[e(&unseen)]);
    let done = append(store, &[&note, &first, &second, &third, &unseen]).await;
    assert_eq!(done.outcomes, [Outcome::Stored; 5]);
    assert_eq!(stored(store, &all()).await, id_list(&[&third, &second, &unseen, &first]));
    assert_eq!(put(store, &note).await, Outcome::Deleted);
}

pub(crate) async fn a_stranger_deletes_nothing(store: &dyn Store) {
    let note = event(1, 1, 10, &[], "");
    let article = event(1, 30023, 10, &[tag("d", "x")], "");
    let unseen = event(1, 1, 11, &[], "");
    append(store, &[&note, &article]).await;
    let done = append(store, &[&deletion(2, 20, &[e(&note), e(&unseen), e(&article), a(1, 30023, "x")])]).await;
    assert_eq!(done.changes.len(), 1);
    assert_eq!(put(store, &unseen).await, Outcome::Stored);
    assert_eq!(put(store, &event(1, 30023, 15, &[tag("d", "x")], "")).await, Outcome::Stored);
    assert_eq!(stored(store, &Filter { authors: sorted(&[author(1)]), ..all() }).await.len(), 3);
    // Nor does a `p` tag make anyone the recipient of an event that is no gift wrap.
    let mention = event(1, 1, 12, &[tag("p", &author(2).to_hex())], "");
    append(store, &[&mention, &deletion(2, 20, &[e(&mention)])]).await;
    assert_eq!(put(store, &mention).await, Outcome::Duplicate);
}

pub(crate) async fn tombstones_block_and_outlive_their_request(store: &dyn Store) {
    let note = event(1, 1, 10, &[], "");
    let article = event(1, 30023, 10, &[tag("d", "x")], "");
    let request = deletion(1, 20, &[e(&note), a(1, 30023, "x")]);
    assert_eq!(put(store, &request).await, Outcome::Stored);
    let gone = store.remove(&Filter { ids: sorted(&[request.id()]), ..all() }, 10).await.unwrap();
    assert_eq!(words(&gone.changes), [("administered", request.id())]);
    assert_eq!(append(store, &[&note, &article]).await.outcomes, [Outcome::Deleted; 2]);
    assert!(stored(store, &all()).await.is_empty());
}

pub(crate) async fn a_deleted_version_leaves_a_floor(store: &dyn Store) {
    let (old, new) = (event(1, 0, 10, &[], ""), event(1, 0, 20, &[], ""));
    append(store, &[&old, &new]).await;
    append(store, &[&deletion(1, 30, &[e(&new)])]).await;
    assert_eq!(put(store, &new).await, Outcome::Deleted);
    assert_eq!(put(store, &old).await, Outcome::Superseded);
    assert_eq!(put(store, &event(1, 0, 19, &[], "")).await, Outcome::Superseded);
    assert_eq!(put(store, &event(1, 0, 21, &[], "")).await, Outcome::Stored);
    // The same within one batch.
    let (old, new) = (event(2, 0, 10, &[], ""), event(2, 0, 20, &[], ""));
    let done = append(store, &[&new, &deletion(2, 30, &[e(&new)]), &old]).await;
    assert_eq!(done.outcomes, [Outcome::Stored, Outcome::Stored, Outcome::Superseded]);
}

pub(crate) async fn a_recipient_deletes_a_gift_wrap(store: &dyn Store) {
    let wrap = |at, to: u8| event(1, 1059, at, &[tag("p", &author(to).to_hex())], "");
    let (one, two, three) = (wrap(10, 2), wrap(11, 2), wrap(12, 3));
    append(store, &[&one, &three]).await;
    let request = deletion(2, 20, &[e(&one), e(&two), e(&three)]);
    let done = append(store, &[&request]).await;
    assert_eq!(words(&done.changes), [("inserted", request.id()), ("deleted", one.id())]);
    assert_eq!(
        append(store, &[&one, &two, &three]).await.outcomes,
        [Outcome::Deleted, Outcome::Deleted, Outcome::Duplicate]
    );
}

pub(crate) async fn malformed_targets_are_ignored(store: &dyn Store) {
    let note = event(1, 1, 10, &[], "");
    let hex = note.id().to_hex();
    append(store, &[&note]).await;
    let tags = [
        tag("e", &hex.to_uppercase()),
        tag("e", &hex[..63]),
        tag("e", ""),
        vec!["e".into()],
        tag("a", "x"),
        tag("a", &format!("1:{}:", author(1))),
        tag("E", &hex),
    ];
    let done = append(store, &[&deletion(1, 20, &tags)]).await;
    assert_eq!(done.changes.len(), 1);
    assert_eq!(put(store, &note).await, Outcome::Duplicate);
}

pub(crate) async fn thousands_of_targets(store: &dyn Store) {
    let events: Vec<_> = (0..300).map(|n| event(1, 1, n, &[], "")).collect();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    let mut tags: Vec<_> = (0..40_000_u32).map(|n| tag("e", &format!("{n:064x}"))).collect();
    tags.extend((0..5_000).map(|n| a(1, 30000, &n.to_string())));
    tags.extend(events.iter().map(|event| e(event)));
    let request = deletion(1, 1000, &tags);
    let done = append(store, &[&request]).await;
    assert_eq!(done.changes.len(), 301);
    assert_eq!(put(store, &events[0]).await, Outcome::Deleted);
    assert_eq!(put(store, &event(1, 30000, 1000, &[tag("d", "4999")], "")).await, Outcome::Deleted);
    assert_eq!(stored(store, &all()).await, [request.id()]);
}
