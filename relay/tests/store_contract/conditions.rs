//! Conditions that need unusual forms of statements.

use crate::store_kit::*;
use relay::store::Store;
use relay::types::{Access, Event, EventId, Filter, Kind, Position, TagFilter};
use std::sync::Arc;

pub(crate) async fn ids_that_begin_the_same(store: &dyn Store) {
    let stored = event(1, 1, 1, &[], "");
    append(store, &[&stored]).await;
    let id = stored.id();
    let ids = |ids: &[EventId]| Filter { ids: sorted(ids), ..all() };
    assert_eq!(page(store, &ids(&[id, almost(id)]), 10).await.rows.len(), 1);
    assert!(page(store, &ids(&[almost(id)]), 10).await.rows.is_empty());
}

/// With more (author, kind) pairs than the store walks one by one, it walks only those that the authors have used.
pub(crate) async fn many_authors_times_many_kinds(store: &dyn Store) {
    let events = [(1, 1), (1, 300), (2, 7), (2, 301), (2, 1), (3, 302), (200, 199)];
    let events = events.map(|(n, kind)| event(n, kind, i64::from(kind), &[], ""));
    append(store, &events.iter().collect::<Vec<_>>()).await;
    let filter = Filter {
        authors: sorted(&(0..=255).map(author).collect::<Vec<_>>()),
        kinds: sorted(&(1..=200).map(Kind).collect::<Vec<_>>()),
        ..all()
    };
    let found = page(store, &filter, 10).await.rows;
    let mut wanted = id_list(&[&events[6], &events[2], &events[0], &events[4]]);
    wanted[2..].sort();
    assert_eq!(found.iter().map(|row| row.key.id).collect::<Vec<EventId>>(), wanted);
    assert_eq!(page(store, &filter, 2).await.rows.len(), 2);
}

/// Neither in a read nor in a count nor in a removal, where the mistake would lose events.
pub(crate) async fn empty_lists_select_nothing(store: &dyn Store) {
    append(store, &[&event(1, 1, 1, &[tag("t", "x")], ""), &event(1, 30_001, 2, &[], "")]).await;
    let no_value = |letter| [TagFilter { letter, values: Box::default() }].into();
    for filter in [
        Filter { ids: Some(Box::default()), ..all() },
        Filter { authors: Some(Box::default()), ..all() },
        Filter { kinds: Some(Box::default()), ..all() },
        Filter { tags: no_value(b't'), ..all() },
        Filter { tags: no_value(b'd'), ..all() },
        Filter { authors: sorted(&[author(1)]), kinds: Some(Box::default()), ..all() },
        Filter { kinds: sorted(&[Kind(1)]), tags: no_value(b't'), ..all() },
        Filter { authors: Some(Box::default()), tags: [tag_filter(b't', &["x"])].into(), ..all() },
        Filter::nothing(),
    ] {
        let page = page(store, &filter, 10).await;
        assert!(page.rows.is_empty() && page.rest.is_empty() && page.complete, "{filter:?}");
        let counted = store.count(std::slice::from_ref(&filter), &Access::default(), Position::default(), NOW).await;
        assert_eq!(counted.unwrap().number, 0, "{filter:?}");
        assert!(store.remove(&filter, 10).await.unwrap().changes.is_empty(), "{filter:?}");
    }
    assert_eq!(stored(store, &all()).await.len(), 2);
}

/// A filter, and which events it selects, newest first.
type Selection = (Filter, Vec<usize>);

/// An addressable event without a `d` that has a value has the empty identifier (NIP-01).
fn identified() -> ([Arc<Event>; 6], Vec<Selection>) {
    let events = [
        event(1, 30_001, 10, &[tag("t", "x")], "[\"d\",\"\"]"),
        event(1, 30_002, 11, &[vec!["d".to_owned()]], ""),
        event(1, 39_999, 12, &[tag("d", "")], ""),
        event(1, 30_001, 13, &[tag("d", "x")], ""),
        event(1, 1, 14, &[], "only addressable events have an identifier"),
        event(1, 10_002, 15, &[vec!["d".to_owned()]], ""),
    ];

    let d = |values: &[&str]| Filter { tags: [tag_filter(b'd', values)].into(), ..all() };
    let kinds = |list: &[u16]| sorted(&list.iter().map(|n| Kind(*n)).collect::<Vec<_>>());
    let asked = vec![
        (d(&[""]), vec![2, 1, 0]),
        (d(&["", "x"]), vec![3, 2, 1, 0]),
        (d(&["x"]), vec![3]),
        (Filter { kinds: kinds(&[30_001]), authors: sorted(&[author(1)]), ..d(&[""]) }, vec![0]),
        (Filter { kinds: kinds(&[1, 10_002]), ..d(&[""]) }, vec![]),
        (Filter { since: Some(11), ..d(&[""]) }, vec![2, 1]),
        (Filter { tags: [tag_filter(b'd', &[""]), tag_filter(b't', &["x"])].into(), ..all() }, vec![0]),
    ];
    (events, asked)
}

pub(crate) async fn the_empty_identifier_is_found(store: &dyn Store) {
    let (events, asked) = identified();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    for (filter, wanted) in &asked {
        let wanted: Vec<_> = wanted.iter().map(|n| events[*n].id()).collect();
        assert_eq!(stored(store, filter).await, wanted, "{filter:?}");
    }
    // A removed event is removed from there, too.
    let newer = event(1, 30_001, 20, &[], "");
    assert_eq!(append(store, &[&newer]).await.changes.len(), 2);
    assert_eq!(stored(store, &asked[0].0).await, id_list(&[&newer, &events[2], &events[1]]));
    assert_eq!(store.remove(&asked[0].0, 10).await.unwrap().changes.len(), 3);
    assert_eq!(stored(store, &all()).await, id_list(&[&events[5], &events[4], &events[3]]));
}

pub(crate) async fn empty_identifiers_are_counted(store: &dyn Store) {
    let (events, asked) = identified();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    for (filter, wanted) in &asked {
        let counted = store.count(std::slice::from_ref(filter), &Access::default(), Position::default(), NOW).await;
        assert_eq!(counted.unwrap().number, wanted.len() as u64, "{filter:?}");
    }
}
