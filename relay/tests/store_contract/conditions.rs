//! Conditions whose forms are out of the ordinary.

use crate::store_kit::*;
use relay::store::Store;
use relay::types::{EventId, Filter, Kind};

pub(crate) async fn ids_that_begin_the_same(store: &dyn Store) {
    let stored = event(1, 1, 1, &[], "");
    append(store, &[&stored]).await;
    let id = stored.id();
    let ids = |ids: &[EventId]| Filter { ids: sorted(ids), ..all() };
    assert_eq!(page(store, &ids(&[id, almost(id)]), 10).await.rows.len(), 1);
    assert!(page(store, &ids(&[almost(id)]), 10).await.rows.is_empty());
}

/// So many pairs that only those are walked that the authors have used.
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
