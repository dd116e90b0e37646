//! No reader gets the gift wraps or the application data of another one.

use super::flights::{Scene, authenticated, by_id, reader};
use crate::store::{Read, Store};
use crate::types::safeguard::{Safeguard, without};
use crate::types::{Access, Filter, Kind, Position, PrivateKinds};

/// A read with the relay's own rights, which sees all events.
fn whole(filter: &Filter) -> Read<'_> {
    let at_least = Position::default();
    Read { filter, limit: 100, after: None, access: None, at_least, now: 0, max_text_bytes: 1 << 20 }
}

/// Asks for everything and for gift wraps, as the recipient first: how many rows the others get, and their counts.
async fn others_get(scene: &Scene) -> Vec<usize> {
    scene.open();
    let mut got = Vec::new();
    for filter in asked(scene, Kind::GIFT_WRAP).await {
        for _ in 0..2 {
            let recipient = scene.ask(&filter, &authenticated(7)).await.unwrap();
            assert_eq!(recipient, 3, "the recipient reads it");
            assert_eq!(scene.count(&filter, &authenticated(7)).await, 3, "and counts it");
            for other in [Access::default(), authenticated(8)] {
                got.push(scene.ask(&filter, &other).await.unwrap());
                got.push(usize::try_from(scene.count(&filter, &other).await).unwrap());
            }
        }
    }
    got
}

/// Filters that select private and other events: without conditions, by kinds, by ids.
async fn asked(scene: &Scene, private: Kind) -> [Filter; 3] {
    let all = Filter::default();
    let mut kinds = [Kind(1), private];
    kinds.sort_unstable();
    let mixed = Filter { kinds: Some(kinds.into()), ..Filter::default() };
    let everything = scene.store.store.read(&whole(&all)).await.unwrap();
    let named = by_id(&everything.rows.iter().map(|row| row.key.id).collect::<Vec<_>>());
    [all, mixed, named]
}

#[tokio::test]
async fn a_gift_wrap_never_reaches_another_reader_through_the_cache() {
    let scene = Scene::new(true).await;
    assert_eq!(others_get(&scene).await, [2; 24]);
    let scene = scene.restarted();
    assert_eq!(others_get(&scene).await, [2; 24]);
    // Nor does a gift wrap that comes later.
    scene.publish(1_059, &[vec!["p".to_owned(), reader(9).to_hex()]], 5).await;
    assert_eq!(scene.ask(&Filter::default(), &Access::default()).await.unwrap(), 2);
    // And where a kind becomes private, an answer from before is no longer used.
    let open = Access { private_kinds: PrivateKinds::new(Vec::new()), ..Access::default() };
    assert_eq!(scene.ask(&Filter::default(), &open).await.unwrap(), 4);
    assert_eq!(scene.ask(&Filter::default(), &Access::default()).await.unwrap(), 2);
}

#[test]
fn control_without_readers_classes_it_does() {
    let got = on_this_thread_without_classes(async { others_get(&Scene::new(true).await).await });
    assert!(got.contains(&3), "nobody would notice: {got:?}");
}

/// Runs `test` without the safeguard, which is ablated on this thread only.
fn on_this_thread_without_classes(test: impl Future<Output = Vec<usize>>) -> Vec<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    without(Some(Safeguard::ReaderClasses), || runtime.block_on(test))
}

/// Asks for notes and for the data of author 1, which names reader 7, as the author first: what the others get, with
/// reader 7.
async fn others_get_data(scene: &Scene) -> Vec<usize> {
    scene.open();
    scene.remove(&Filter { kinds: Some([Kind::GIFT_WRAP].into()), ..Filter::default() }).await;
    scene.publish(78, &[vec!["p".to_owned(), reader(7).to_hex()]], 4).await;
    let as_reader =
        |access: Access| Access { private_kinds: PrivateKinds::default().with_author_only(vec![Kind(78)]), ..access };
    let mut got = Vec::new();
    for filter in asked(scene, Kind(78)).await {
        for _ in 0..2 {
            let author = as_reader(authenticated(1));
            assert_eq!(scene.ask(&filter, &author).await.unwrap(), 3, "the author reads it");
            assert_eq!(scene.count(&filter, &author).await, 3, "and counts it");
            for other in [Access::default(), authenticated(7), authenticated(8)].map(as_reader) {
                got.push(scene.ask(&filter, &other).await.unwrap());
                got.push(usize::try_from(scene.count(&filter, &other).await).unwrap());
            }
        }
    }
    got
}

#[tokio::test]
async fn what_is_for_its_author_alone_never_reaches_whom_it_names() {
    let scene = Scene::new(true).await;
    assert_eq!(others_get_data(&scene).await, [2; 36]);
    // Where a kind was for recipients and becomes author-only, an answer from before is no longer used.
    let to_recipients = PrivateKinds::new(vec![Kind(78)]);
    let named = Access { private_kinds: to_recipients.clone(), ..authenticated(7) };
    assert_eq!(scene.ask(&Filter::default(), &named).await.unwrap(), 3);
    let named = Access { private_kinds: to_recipients.with_author_only(vec![Kind(78)]), ..authenticated(7) };
    assert_eq!(scene.ask(&Filter::default(), &named).await.unwrap(), 2);
}

#[test]
fn control_without_readers_classes_it_reaches_them() {
    let got = on_this_thread_without_classes(async { others_get_data(&Scene::new(true).await).await });
    assert!(got.contains(&3), "nobody would notice: {got:?}");
}
