//! One suite for every store: the promises of `relay::store::Store`, rule by rule.
#![allow(clippy::unwrap_used, missing_docs)]

mod conditions;
mod deletion;
mod private;
#[path = "../store_kit/mod.rs"]
mod store_kit;
mod vanishing;
mod versions;

use conditions::*;
use deletion::*;
use private::*;
use relay::store::{Outcome, Read, Store, StoreError};
use relay::types::{Access, EventId, Filter, Kind, Position, Row, Timestamp};
use store_kit::*;
use vanishing::*;
use versions::*;

macro_rules! contract {
    ($store:ident: $make:expr; $($rule:ident),* $(,)?) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $rule() {
                let folder = tempfile::tempdir().unwrap();
                let make: fn(&std::path::Path) -> futures_util::future::LocalBoxFuture<'_, Box<dyn super::Store>> = $make;
                super::$rule(&*make(folder.path()).await).await;
            })*
        }
    };
}

macro_rules! every_store {
    ($($exact:ident),*; $($rule:ident),* $(,)?) => {
        contract! { memory: |_| Box::pin(async { Box::new(relay::store::memory::MemoryStore::new()) as _ });
            $($exact,)* $($rule),* }
        contract! { sqlite: |folder| Box::pin(async { Box::new(super::store_kit::sqlite(folder, 64).await) as _ });
            $($exact,)* $($rule),* }
        // Hashes of two bits: most of what an index finds is wrong, and every answer must be right nevertheless. A
        // count relies on its hashes, so the rules that count are left out.
        contract! { sqlite_colliding: |folder| Box::pin(async { Box::new(super::store_kit::sqlite(folder, 2).await) as _ });
            $($rule),* }
        contract! { postgres: |_| Box::pin(async { Box::new(super::store_kit::postgres(64).await) as _ });
            $($exact,)* $($rule),* }
        contract! { postgres_replicas: |_| Box::pin(async { Box::new(super::store_kit::through_replicas(64).await) as _ });
            $($exact,)* $($rule),* }
        contract! { postgres_colliding: |_| Box::pin(async { Box::new(super::store_kit::postgres(2).await) as _ });
            $($rule),* }
    };
}

every_store! {
    private_kinds_before_the_limit, author_only_kinds_before_the_limit, counts_are_distinct, empty_identifiers_are_counted,
    all_of_several_values_are_counted;
    an_empty_store_answers,
    an_event_is_stored_once,
    a_batch_decides_in_order,
    the_head_moves_once_a_call,
    order_is_newest_first_then_lowest_id,
    pages_join_without_gap_or_double,
    texts_beyond_the_bound_come_as_keys,
    every_condition_narrows,
    tag_values_are_matched_exactly,
    ids_that_begin_the_same,
    many_authors_times_many_kinds,
    empty_lists_select_nothing,
    all_of_several_values_are_there,
    the_empty_identifier_is_found,
    newest_version_stays,
    equal_versions_the_lowest_id_stays,
    addressable_versions_are_kept_apart_by_d,
    versions_within_one_batch,
    deletion_by_id,
    deletion_within_one_batch,
    deletion_by_address,
    deletion_of_a_deletion_does_nothing,
    a_stranger_deletes_nothing,
    tombstones_block_and_outlive_their_request,
    a_deleted_version_leaves_a_floor,
    a_recipient_deletes_a_gift_wrap,
    malformed_targets_are_ignored,
    thousands_of_targets,
    a_vanished_key_is_gone_and_stays_out,
    a_later_request_to_vanish_reaches_further,
    a_request_to_vanish_within_one_batch,
    nothing_deletes_a_request_to_vanish,
    the_operator_lets_a_key_vanish,
    expiry,
    the_operator_removes,
    late_times_and_odd_values,
    a_closed_store_says_so,
}

async fn an_empty_store_answers(store: &dyn Store) {
    let page = page(store, &all(), 10).await;
    assert!(page.rows.is_empty() && page.rest.is_empty() && page.complete);
    assert_eq!((page.head, page.head.position.0), (store.head().await.unwrap(), 0));
    let nothing = append(store, &[]).await;
    assert_eq!((nothing.head, nothing.outcomes.len(), nothing.changes.len()), (page.head, 0, 0));
    assert!(store.fetch(&[EventId::from_bytes([1; 32])]).await.unwrap().is_empty());
    assert_eq!(store.count(&[all()], &Access::default(), Position::default(), NOW).await.unwrap().number, 0);
    assert_eq!(store.sweep_expired(NOW, 10).await.unwrap().head, page.head);
    assert_eq!(store.remove(&all(), 10).await.unwrap().head, page.head);
}

async fn an_event_is_stored_once(store: &dyn Store) {
    let (one, two) = (event(1, 1, 10, &[], "a"), event(1, 1, 11, &[], "b"));
    let done = append(store, &[&one]).await;
    assert_eq!(done.outcomes, [Outcome::Stored]);
    assert_eq!(words(&done.changes), [("inserted", one.id())]);
    let done = append(store, &[&one, &two, &two]).await;
    assert_eq!(done.outcomes, [Outcome::Duplicate, Outcome::Stored, Outcome::Duplicate]);
    assert_eq!(words(&done.changes), [("inserted", two.id())]);
    let unknown = EventId::from_bytes([9; 32]);
    let (known, head) = store.known(&[two.id(), unknown, one.id(), two.id()], Position::default()).await.unwrap();
    assert_eq!((known, head), (vec![true, false, true, true], done.head));
    let mut rows = store.fetch(&[unknown, two.id(), one.id()]).await.unwrap();
    rows.sort_by_key(|row| row.key.created_at);
    assert_eq!(rows, [Row::from(&*one), Row::from(&*two)]);
}

async fn a_batch_decides_in_order(store: &dyn Store) {
    let note = event(1, 1, 10, &[], "note");
    let request = deletion(1, 20, &[e(&note)]);
    let done = append(store, &[&note, &request, &note]).await;
    assert_eq!(done.outcomes, [Outcome::Stored, Outcome::Stored, Outcome::Deleted]);
    assert_eq!(words(&done.changes), [("inserted", note.id()), ("inserted", request.id()), ("deleted", note.id())]);
    assert_eq!(stored(store, &all()).await, [request.id()]);
}

async fn the_head_moves_once_a_call(store: &dyn Store) {
    let start = store.head().await.unwrap();
    let events: Vec<_> = (0..300).map(|n| event(1, 1, n, &[], "x")).collect();
    let done = append(store, &events.iter().collect::<Vec<_>>()).await;
    assert_eq!(done.head.position, start.position.next());
    assert_eq!((done.head.epoch, store.head().await.unwrap()), (start.epoch, done.head));
    let again = append(store, &[&events[0]]).await;
    assert_eq!(again.head, done.head, "nothing changed, so no position is taken");
    assert_eq!(page(store, &all(), 5).await.head, done.head);
    let none = Filter { since: Some(9), until: Some(8), ..all() };
    let nothing = page(store, &none, 5).await;
    assert!(nothing.rows.is_empty() && nothing.complete);
    assert_eq!(nothing.head, done.head);
}

async fn order_is_newest_first_then_lowest_id(store: &dyn Store) {
    let mut events: Vec<_> = (0..40).map(|n| event(n % 3, 1, i64::from(n / 10), &[], &n.to_string())).collect();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    events.sort_by_key(|event| key(event).order());
    let order: Vec<_> = events.iter().map(|event| event.id()).collect();
    for limit in 0..=41 {
        let page = page(store, &all(), limit).await;
        assert_eq!(ids(&page), order[..limit.min(40)], "limit {limit}");
        assert_eq!(page.complete, limit >= 40);
    }
}

async fn pages_join_without_gap_or_double(store: &dyn Store) {
    let mut events: Vec<_> = (0..30).map(|n| event(n % 3, 1, i64::from(n / 10), &[], &n.to_string())).collect();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    events.sort_by_key(|event| key(event).order());
    let (mut walked, mut after) = (Vec::new(), None);
    loop {
        let page = store.read(&Read { after, ..ask(&all(), 7) }).await.unwrap();
        walked.extend(ids(&page));
        after = page.rows.last().map(|row| row.key);
        if page.complete {
            break;
        }
    }
    assert_eq!(walked, events.iter().map(|event| event.id()).collect::<Vec<_>>());
}

async fn texts_beyond_the_bound_come_as_keys(store: &dyn Store) {
    let sizes = [100, 20_000, 100, 70_000, 100, 100];
    let events: Vec<_> = sizes.iter().zip(1..).map(|(size, n)| event(1, 1, 100 - n, &[], &"x".repeat(*size))).collect();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    let keys: Vec<_> = events.iter().map(|event| key(event)).collect();
    for (bound, rows) in [(0, 1), (1_000, 2), (21_500, 4), (30_000, 4), (1_000_000, 6)] {
        let page = store.read(&Read { max_text_bytes: bound, ..ask(&all(), 100) }).await.unwrap();
        assert_eq!(page.rows, events[..rows].iter().map(|event| Row::from(&**event)).collect::<Vec<_>>());
        assert_eq!((page.rest, page.complete), (keys[rows..].to_vec(), true), "bound {bound}");
    }
    let rest: Vec<_> = keys[4..].iter().map(|key| key.id).collect();
    assert_eq!(store.fetch(&rest).await.unwrap().len(), 2);
}

async fn every_condition_narrows(store: &dyn Store) {
    let p = author(9).to_hex();
    let events = [
        event(1, 1, 10, &[tag("p", &p), tag("t", "x")], ""),
        event(1, 7, 11, &[tag("p", &p)], ""),
        event(2, 1, 12, &[tag("t", "x"), tag("t", "y")], ""),
        event(2, 7, 13, &[tag("t", "y"), tag("T", "x")], ""),
        event(3, 30023, 14, &[tag("d", ""), tag("long", "x")], ""),
    ];
    append(store, &events.iter().collect::<Vec<_>>()).await;
    let expect = |filter: Filter, wanted: &[usize]| {
        let wanted: Vec<_> = wanted.iter().rev().map(|n| events[*n].id()).collect();
        async move { assert_eq!(stored(store, &filter).await, wanted, "{filter:?}") }
    };
    let authors = |list: &[u8]| sorted(&list.iter().map(|n| author(*n)).collect::<Vec<_>>());
    let kinds = |list: &[u16]| sorted(&list.iter().map(|n| Kind(*n)).collect::<Vec<_>>());
    let tags = |list: &[(u8, &[&str])]| list.iter().map(|(l, v)| tag_filter(*l, v)).collect::<Box<[_]>>();
    expect(Filter { ids: sorted(&[events[0].id(), events[3].id()]), ..all() }, &[0, 3]).await;
    expect(Filter { ids: sorted(&[events[0].id(), events[3].id()]), kinds: kinds(&[7]), ..all() }, &[3]).await;
    expect(Filter { authors: authors(&[1]), ..all() }, &[0, 1]).await;
    expect(Filter { authors: authors(&[1, 2, 4]), ..all() }, &[0, 1, 2, 3]).await;
    expect(Filter { authors: authors(&[1, 2]), kinds: kinds(&[1]), ..all() }, &[0, 2]).await;
    expect(Filter { authors: authors(&[2]), kinds: kinds(&[1, 7]), ..all() }, &[2, 3]).await;
    expect(Filter { kinds: kinds(&[7]), ..all() }, &[1, 3]).await;
    expect(Filter { kinds: kinds(&[7, 30023, 2]), ..all() }, &[1, 3, 4]).await;
    expect(Filter { since: Some(11), until: Some(12), ..all() }, &[1, 2]).await;
    expect(Filter { tags: tags(&[(b'p', &[&p])]), ..all() }, &[0, 1]).await;
    expect(Filter { tags: tags(&[(b't', &["x", "y"])]), ..all() }, &[0, 2, 3]).await;
    expect(Filter { tags: tags(&[(b't', &["x", "y"])]), kinds: kinds(&[7]), ..all() }, &[3]).await;
    expect(Filter { tags: tags(&[(b'p', &[&p]), (b't', &["x"])]), ..all() }, &[0]).await;
    expect(Filter { tags: tags(&[(b'T', &["x"])]), ..all() }, &[3]).await;
    expect(Filter { tags: tags(&[(b'd', &[""])]), ..all() }, &[4]).await;
    expect(Filter { tags: tags(&[(b'l', &["x"])]), ..all() }, &[]).await;
    expect(Filter { tags: tags(&[(b't', &["x"])]), authors: authors(&[2]), ..all() }, &[2]).await;
    expect(Filter { tags: tags(&[(b't', &["x"])]), since: Some(11), until: Some(12), ..all() }, &[2]).await;
    expect(Filter { authors: authors(&[1]), since: Some(11), ..all() }, &[1]).await;
}

async fn tag_values_are_matched_exactly(store: &dyn Store) {
    let odd =
        ["", " ", "\"", "\\", "a\"],[\"t\",\"b", "é\u{1F600}", "\n\t\u{1}", "x".repeat(5000).leak(), "[\"t\",\"x\""];
    let events: Vec<_> = odd.iter().zip(1..).map(|(value, n)| event(1, 1, n, &[tag("t", value)], value)).collect();
    // The same byte sequences in a content or in a later element are no tag.
    let decoy = event(1, 1, 99, &[vec!["q".into(), "[\"t\",\"b\"".into(), "t".into()]], "[\"t\",\"b\"]");
    append(store, &events.iter().chain([&decoy]).collect::<Vec<_>>()).await;
    for (value, event) in odd.iter().zip(&events) {
        let filter = Filter { tags: [tag_filter(b't', &[value])].into(), ..all() };
        assert_eq!(stored(store, &filter).await, [event.id()], "{value:?}");
    }
    let filter = Filter { tags: [tag_filter(b't', &odd)].into(), ..all() };
    assert_eq!(stored(store, &filter).await.len(), odd.len());
    let filter = Filter { tags: [tag_filter(b't', &["b"])].into(), ..all() };
    assert!(stored(store, &filter).await.is_empty());
}

async fn expiry(store: &dyn Store) {
    let until = |at: Timestamp| tag("expiration", &at.to_string());
    let gone = event(1, 1, 10, &[until(NOW)], "");
    let soon = event(1, 1, 11, &[until(NOW + 1), tag("t", "x")], "");
    let later = event(1, 0, 12, &[until(NOW + 10)], "");
    let never = event(1, 1, 13, &[tag("t", "x")], "");
    let done = append(store, &[&gone, &soon, &later, &never]).await;
    assert_eq!(done.outcomes, [Outcome::Expired, Outcome::Stored, Outcome::Stored, Outcome::Stored]);
    let first = page(store, &all(), 10).await;
    assert_eq!(ids(&first), id_list(&[&never, &later, &soon]));
    assert_eq!(first.rows.iter().map(|row| row.expires_at).collect::<Vec<_>>(), [None, Some(NOW + 10), Some(NOW + 1)]);
    // Before it is swept, an expired event is in no page, does not count against a limit, and is not counted.
    let second = store.read(&Read { now: NOW + 1, ..ask(&all(), 2) }).await.unwrap();
    assert_eq!((ids(&second), second.complete), (id_list(&[&never, &later]), true));
    let t = Filter { tags: [tag_filter(b't', &["x"])].into(), ..all() };
    for (filters, now, number, expires_at) in [
        (vec![t.clone()], NOW, 2, Some(NOW + 1)),
        (vec![t.clone()], NOW + 1, 1, None),
        (vec![all()], NOW, 3, Some(NOW + 1)),
        (vec![all(), t], NOW + 1, 2, Some(NOW + 10)),
        (vec![Filter { ids: sorted(&[later.id(), never.id()]), ..all() }], NOW, 2, Some(NOW + 10)),
        (vec![Filter { authors: sorted(&[author(1), author(2)]), ..all() }], NOW, 3, Some(NOW + 1)),
    ] {
        let counted = store.count(&filters, &Access::default(), Position::default(), now).await.unwrap();
        assert_eq!((counted.number, counted.expires_at), (number, expires_at), "{filters:?} at {now}");
    }
    assert_eq!(append_at(store, &[&soon], NOW + 1).await.outcomes, [Outcome::Expired]);
    assert!(store.sweep_expired(NOW, 10).await.unwrap().changes.is_empty());
    let swept = store.sweep_expired(NOW + 100, 1).await.unwrap();
    assert_eq!(words(&swept.changes), [("expired", soon.id())]);
    let swept = store.sweep_expired(NOW + 100, 10).await.unwrap();
    assert_eq!(words(&swept.changes), [("expired", later.id())]);
    assert_eq!(stored(store, &all()).await, [never.id()]);
    assert_eq!(put(store, &event(1, 0, 11, &[], "")).await, Outcome::Superseded, "an expired version leaves a floor");
}

async fn the_operator_removes(store: &dyn Store) {
    let events: Vec<_> = (0..10).map(|n| event(1, 1, n, &[tag("t", "x")], "")).collect();
    let profile = event(1, 0, 50, &[], "");
    append(store, &events.iter().chain([&profile]).collect::<Vec<_>>()).await;
    let filter = Filter { kinds: sorted(&[Kind(1)]), ..all() };
    let done = store.remove(&filter, 4).await.unwrap();
    assert_eq!(done.changes.len(), 4);
    assert_eq!(done.head, store.head().await.unwrap());
    assert_eq!(store.remove(&filter, 400).await.unwrap().changes.len(), 6);
    assert_eq!(store.remove(&all(), 400).await.unwrap().changes.len(), 1);
    assert!(stored(store, &Filter { tags: [tag_filter(b't', &["x"])].into(), ..all() }).await.is_empty());
    assert_eq!(put(store, &events[0]).await, Outcome::Stored);
    assert_eq!(put(store, &event(1, 0, 40, &[], "")).await, Outcome::Stored, "an older one, too");
}

async fn counts_are_distinct(store: &dyn Store) {
    let events: Vec<_> = (0..50)
        .map(|n| event(n % 5, [1, 2, 7][usize::from(n % 3)], n.into(), &[tag("t", "x"), tag("t", "y")], ""))
        .collect();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    let count = |filters: Vec<Filter>| async move {
        store.count(&filters, &Access::default(), Position::default(), NOW).await.unwrap().number
    };
    assert_eq!(count(vec![]).await, 0);
    assert_eq!(count(vec![all(), all()]).await, 50);
    let tags = Filter { tags: [tag_filter(b't', &["x", "y", "z"])].into(), limit: Some(3), ..all() };
    assert_eq!(count(vec![tags.clone()]).await, 50, "an event with two of the values counts once");
    let kinds = Filter { kinds: sorted(&[Kind(1)]), ..all() };
    assert_eq!(count(vec![kinds.clone()]).await, 17);
    assert_eq!(count(vec![kinds.clone(), tags]).await, 50);
    let one = Filter { authors: sorted(&[author(1)]), ..all() };
    assert_eq!(count(vec![one.clone()]).await, 10);
    assert_eq!(count(vec![one, kinds]).await, 24);
    assert_eq!(count(vec![Filter { ids: sorted(&id_list(&[&events[0], &events[1]])), ..all() }]).await, 2);
    let (right, wrong) = (events[0].id(), almost(events[0].id()));
    assert_eq!(count(vec![Filter { ids: sorted(&[right, wrong]), ..all() }]).await, 1);
    assert_eq!(count(vec![Filter { ids: sorted(&[wrong]), ..all() }]).await, 0, "an id counts whole");
    assert_eq!(count(vec![Filter { since: Some(10), until: Some(19), ..all() }]).await, 10);
    assert_eq!(count(vec![Filter { since: Some(10), until: Some(9), ..all() }]).await, 0);
}

async fn late_times_and_odd_values(store: &dyn Store) {
    let times = [0, 1, u32::MAX.into(), (1 << 34) - 2, (1 << 34) - 1, 1 << 34, 253_402_300_799, 1 << 40, i64::MAX - 1];
    let mut events: Vec<_> = times.iter().map(|at| event(1, 1, *at, &[tag("t", "x")], "")).collect();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    events.reverse();
    let t = Filter { tags: [tag_filter(b't', &["x"])].into(), ..all() };
    for limit in 0..=9 {
        for filter in [&all(), &t] {
            let page = page(store, filter, limit).await;
            assert_eq!(ids(&page), events[..limit].iter().map(|event| event.id()).collect::<Vec<_>>());
            assert_eq!(page.complete, limit == 9);
        }
    }
    for (since, until, found) in [
        (0, 0, 1),
        (1 << 34, i64::MAX, 4),
        (1 << 40, 1 << 40, 1),
        (2, (1 << 34) - 1, 3),
        (-5, -1, 0),
        (i64::MIN, i64::MAX, 9),
    ] {
        let filter = Filter { since: Some(since), until: Some(until), ..all() };
        assert_eq!(stored(store, &filter).await.len(), found, "{since} {until}");
        assert_eq!(
            store.count(&[filter], &Access::default(), Position::default(), NOW).await.unwrap().number,
            found as u64,
            "{since} {until}"
        );
    }
}

async fn a_closed_store_says_so(store: &dyn Store) {
    let note = event(1, 1, 1, &[], "");
    append(store, &[&note]).await;
    store.close().await;
    store.close().await;
    assert!(matches!(store.head().await, Err(StoreError::Closed)));
    assert!(matches!(store.read(&ask(&all(), 1)).await, Err(StoreError::Closed)));
    assert!(matches!(store.append(vec![], NOW).await, Err(StoreError::Closed)));
    assert!(matches!(store.remove(&all(), 1).await, Err(StoreError::Closed)));
}
