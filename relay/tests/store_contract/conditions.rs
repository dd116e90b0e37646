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

/// Events with topics, and filters that ask for all of several (NIP-91), each with the events that it selects, newest
/// first.
fn with_topics() -> (Vec<Arc<Event>>, Vec<Selection>) {
    let topics = |list: &[&str]| list.iter().map(|topic| tag("t", topic)).collect::<Vec<_>>();
    let of = |n, kind, at, list: &[&str]| event(n, kind, at, &topics(list), "");
    let mut events = vec![
        of(1, 1, 100, &["a"]),
        of(1, 1, 101, &["b", "a"]),
        of(2, 7, 102, &["a", "b", "c"]),
        of(2, 1, 103, &["b", "c"]),
        of(1, 7, 104, &["a", "a", "d"]),
        event(1, 30_001, 105, &[tag("t", "a"), tag("t", "b"), tag("p", &author(3).to_hex())], "[\"t\",\"c\"]"),
    ];
    // Lists so long, of one value and of the other, that a store does not count them to their ends.
    events.extend((0..90).map(|at| of(3, 1, at, &[if at % 2 == 0 { "a" } else { "b" }])));
    let asked = [
        (r##"{"&t":["a","b"]}"##, vec![5, 2, 1]),
        (r##"{"&t":["a","b","c"]}"##, vec![2]),
        (r##"{"&t":["a","b"],"#t":["a","b"]}"##, vec![5, 2, 1]),
        (r##"{"&t":["a"],"#t":["a","b","d"]}"##, vec![5, 4, 2, 1]),
        (r##"{"&t":["a","b"],"#t":["c","d"]}"##, vec![2]),
        (r##"{"&t":["a","d"],"kinds":[7]}"##, vec![4]),
        (r##"{"&t":["a","b"],"kinds":[1,7]}"##, vec![2, 1]),
        (r##"{"&t":["a","none"]}"##, vec![]),
        (r##"{"&t":["a","b"],"since":102,"until":104}"##, vec![2]),
        (r##"{"&t":["a","b"],"&d":[""]}"##, vec![5]),
        (r##"{"&t":[]}"##, vec![]),
        (r##"{"&t":[],"kinds":[1]}"##, vec![]),
    ];
    let mut asked: Vec<Selection> =
        asked.into_iter().map(|(json, wanted)| (Filter::parse(json).unwrap(), wanted)).collect();
    let both = asked[0].0.clone();
    asked.push((Filter { authors: sorted(&[author(1), author(4)]), ..both.clone() }, vec![5, 1]));
    asked.push((Filter { authors: sorted(&[author(2)]), kinds: sorted(&[Kind(1), Kind(7)]), ..both.clone() }, vec![2]));
    asked.push((Filter { ids: sorted(&id_list(&[&events[0], &events[1], &events[3]])), ..both }, vec![1]));
    (events, asked)
}

pub(crate) async fn all_of_several_values_are_there(store: &dyn Store) {
    let (events, asked) = with_topics();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    for (filter, wanted) in &asked {
        let wanted: Vec<_> = wanted.iter().map(|n| events[*n].id()).collect();
        assert_eq!(stored(store, filter).await, wanted, "{}", filter.to_json());
        for limit in 1..3 {
            let page = page(store, filter, limit).await;
            assert_eq!(ids(&page), wanted[..limit.min(wanted.len())], "{}", filter.to_json());
            assert_eq!(page.complete, wanted.len() <= limit, "{}", filter.to_json());
        }
    }
    // The control: as a choice they select more.
    let either = Filter { tags: [tag_filter(b't', &["a", "b"])].into(), ..all() };
    assert_eq!(stored(store, &either).await.len(), 96);
    assert_eq!(store.remove(&asked[0].0, 10).await.unwrap().changes.len(), 3);
    assert_eq!(stored(store, &either).await.len(), 93);
}

pub(crate) async fn all_of_several_values_are_counted(store: &dyn Store) {
    let (events, asked) = with_topics();
    append(store, &events.iter().collect::<Vec<_>>()).await;
    let count = |filters: Vec<Filter>| async move {
        store.count(&filters, &Access::default(), Position::default(), NOW).await.unwrap().number
    };
    for (filter, wanted) in &asked {
        assert_eq!(count(vec![filter.clone()]).await, wanted.len() as u64, "{}", filter.to_json());
    }
    assert_eq!(count(vec![asked[0].0.clone(), asked[5].0.clone()]).await, 4, "each event once");
}
