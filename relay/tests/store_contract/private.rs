//! Events that only their recipients, or only their author, may read never count against the limit of another reader.

use crate::store_kit::*;
use relay::store::{Read, Store};
use relay::types::{Access, Filter, Kind, Position, PrivateKinds};

pub(crate) async fn private_kinds_before_the_limit(store: &dyn Store) {
    let wrap = |at, to: u8| event(1, 1059, at, &[tag("p", &author(to).to_hex()), tag("t", "x")], "");
    let (mine, theirs) = (wrap(90, 2), wrap(91, 3));
    let note = event(1, 1, 10, &[tag("t", "x"), tag("p", &author(2).to_hex())], "");
    let mut events: Vec<_> = (20..80).map(|at| wrap(at, 3)).collect();
    events.extend([mine.clone(), theirs.clone(), note.clone()]);
    append(store, &events.iter().collect::<Vec<_>>()).await;
    let filters = [
        all(),
        Filter { tags: [tag_filter(b't', &["x"])].into(), ..all() },
        Filter { tags: [tag_filter(b't', &["x", "y"])].into(), ..all() },
        Filter { tags: [tag_filter(b'p', &[&author(2).to_hex()])].into(), ..all() },
        Filter { authors: sorted(&[author(1)]), ..all() },
        Filter { kinds: sorted(&[Kind(1), Kind(1059)]), ..all() },
        Filter { authors: sorted(&[author(1), author(2)]), kinds: sorted(&[Kind(1), Kind(1059)]), ..all() },
        Filter { ids: sorted(&events.iter().map(|event| event.id()).collect::<Vec<_>>()), ..all() },
    ];
    for filter in &filters {
        let read = |access: Access| async move {
            let page = store.read(&Read { access: Some(&access), ..ask(filter, 2) }).await.unwrap();
            let count =
                store.count(std::slice::from_ref(filter), &access, Position::default(), NOW).await.unwrap().number;
            assert!(page.complete, "{filter:?}");
            assert_eq!(count, page.rows.len() as u64, "{filter:?}");
            ids(&page)
        };
        assert_eq!(read(reader(&[])).await, [note.id()], "{filter:?}");
        assert_eq!(read(reader(&[1])).await, [note.id()], "a wrap's author is no reader: {filter:?}");
        assert_eq!(read(reader(&[2])).await, [mine.id(), note.id()], "{filter:?}");
        assert_eq!(read(reader(&[4, 2])).await, [mine.id(), note.id()], "{filter:?}");
    }
    let direct = event(5, 4, 100, &[tag("p", &author(6).to_hex())], "");
    append(store, &[&direct]).await;
    let private = PrivateKinds::new(vec![Kind(4)]);
    for (keys, found) in [(&[][..], 0), (&[5], 1), (&[6], 1), (&[7], 0)] {
        let access = Access { private_kinds: private.clone(), ..reader(keys) };
        let filter = Filter { kinds: sorted(&[Kind(4)]), ..all() };
        assert_eq!(page_for(store, &filter, &access).await.rows.len(), found, "{keys:?}");
        assert_eq!(store.count(&[filter], &access, Position::default(), NOW).await.unwrap().number, found as u64);
    }
}

/// An application's data for its user (NIP-78) is served to its author alone, whichever keys it names.
pub(crate) async fn author_only_kinds_before_the_limit(store: &dyn Store) {
    let private = PrivateKinds::default().with_author_only(vec![Kind(78), Kind(30_078)]);
    let recipient = tag("p", &author(2).to_hex());
    let data =
        |n, kind, at: u8| event(n, kind, at.into(), &[recipient.clone(), tag("d", &at.to_string()), tag("t", "x")], "");
    let (mine, settings) = (data(1, 78, 90), data(1, 30_078, 91));
    let note = event(1, 1, 10, &[recipient.clone(), tag("t", "x")], "");
    let wrap = event(1, 1059, 11, &[recipient.clone(), tag("t", "x")], "");
    let mut events: Vec<_> = (20..80).map(|at| data(3, [78, 30_078][usize::from(at) % 2], at)).collect();
    events.extend([mine.clone(), settings.clone(), note.clone(), wrap.clone()]);
    append(store, &events.iter().collect::<Vec<_>>()).await;
    let kinds = sorted(&[Kind(1), Kind(78), Kind(1059), Kind(30_078)]);
    let filters = [
        all(),
        Filter { tags: [tag_filter(b't', &["x"])].into(), ..all() },
        Filter { tags: [tag_filter(b't', &["x", "y"])].into(), ..all() },
        Filter { tags: [tag_filter(b'p', &[&author(2).to_hex()])].into(), ..all() },
        Filter { authors: sorted(&[author(1), author(3)]), ..all() },
        Filter { kinds: kinds.clone(), ..all() },
        Filter { authors: sorted(&[author(1), author(3)]), kinds, ..all() },
        Filter { ids: sorted(&events.iter().map(|event| event.id()).collect::<Vec<_>>()), ..all() },
    ];
    for filter in &filters {
        let read = |keys: &'static [u8], private: &PrivateKinds| {
            let access = Access { private_kinds: private.clone(), ..reader(keys) };
            async move {
                let page = store.read(&Read { access: Some(&access), ..ask(filter, 3) }).await.unwrap();
                let count =
                    store.count(std::slice::from_ref(filter), &access, Position::default(), NOW).await.unwrap().number;
                assert!(!page.complete || count == page.rows.len() as u64, "{filter:?}");
                (ids(&page), count)
            }
        };
        assert_eq!(read(&[], &private).await, (vec![note.id()], 1), "{filter:?}");
        let own = vec![settings.id(), mine.id(), note.id()];
        assert_eq!(read(&[1], &private).await, (own, 3), "a wrap's author is no reader: {filter:?}");
        let named = (vec![wrap.id(), note.id()], 2);
        assert_eq!(read(&[2], &private).await, named, "who is named reads the wrap alone: {filter:?}");
        assert_eq!(read(&[4, 2], &private).await, named, "{filter:?}");
        assert_eq!(read(&[1, 2], &private).await.1, 4, "{filter:?}");
        // The control: where recipients may read the kind, the named key gets the events.
        let to_recipients = PrivateKinds::new(private.as_slice().to_vec());
        assert_eq!(read(&[2], &to_recipients).await.1, 64, "{filter:?}");
        assert_eq!(read(&[], &PrivateKinds::default()).await.1, 63, "and to all, everybody: {filter:?}");
    }
}
