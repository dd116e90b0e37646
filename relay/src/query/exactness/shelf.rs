//! Answers that other instances have shared: too old, ahead of this instance, or read by a wrong clock.

use super::flights::{Scene, notes};
use crate::cache::shared::SharedStatus;
use crate::cache::{Answer, Count, FilterKey, Miss, Purge, SharedLayer, Snapshot};
use crate::types::{Access, EventId, Position, Row, Timestamp, now};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join, join_all, ready};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A shared layer with room for one answer.
#[derive(Default)]
struct Shelf {
    answer: Mutex<Option<Answer>>,
    puts: AtomicUsize,
}

impl SharedLayer for Shelf {
    fn get<'a>(
        &'a self,
        _: &'a FilterKey,
        usable: &'a (dyn Fn(&Answer) -> bool + Sync),
    ) -> BoxFuture<'a, Result<Answer, Miss>> {
        ready(self.answer.lock().clone().filter(|answer| usable(answer)).ok_or(Miss::default())).boxed()
    }
    fn release_lease(&self, _: &FilterKey, _: Miss) {}
    fn put(&self, _: &FilterKey, answer: Answer, _: Miss) {
        self.puts.fetch_add(1, Ordering::SeqCst);
        *self.answer.lock() = Some(answer);
    }
    fn renew_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(3_600))
    }
    fn purge<'a>(&'a self, _: &'a Purge) -> BoxFuture<'a, bool> {
        ready(true).boxed()
    }
    fn status(&self) -> Option<SharedStatus> {
        None
    }
}

#[tokio::test]
async fn a_shared_answer_that_has_grown_old_is_shared_anew() {
    let shelf = Arc::new(Shelf::default());
    let (scene, nobody) = (Scene::before(Some(shelf.clone())).await, Access::default());
    scene.open();
    let shared = |head: Position| {
        let puts = shelf.puts.load(Ordering::SeqCst);
        assert_eq!(shelf.answer.lock().as_ref().map(|answer| answer.head().position), Some(head));
        puts
    };

    assert!(matches!(scene.ask(&notes(), &nobody).await, Ok(2)));
    let read_at = scene.log.head().position;
    assert_eq!(shared(read_at), 1, "as read");
    for (changes, puts) in [(10, 1), (1_000, 2), (999, 2)] {
        for n in 0..changes {
            scene.publish(7, &[], 1_000 * puts + n).await;
        }
        // Empty the cache of this process, as after a start.
        scene.log.cache().unwrap().purge(&Purge::All);
        assert!(matches!(scene.ask(&notes(), &nobody).await, Ok(2)));
        let newest = if puts == 1 { read_at } else { Position(read_at.0 + 1_010) };
        assert_eq!((shared(newest), scene.reads()), (usize::try_from(puts).unwrap(), 1), "after {changes} more");
    }
}

/// Another instance, whose clock is `seconds_ahead`, has shared an answer that lacks a note which expires in an hour.
/// Returns what a reader gets here: rows and a count.
async fn shared_from(seconds_ahead: Timestamp) -> (usize, u64) {
    let (shelf, nobody) = (Arc::new(Shelf::default()), Access::default());
    let scene = Scene::before(Some(shelf.clone())).await;
    scene.open();
    scene.publish(1, &[vec!["expiration".to_owned(), (now() + 3_600).to_string()]], 4).await;
    let (head, read_at) = (scene.log.head(), now() + seconds_ahead);
    let entry = Snapshot { head, limit: 40, rows: [].into(), complete: true, read_at };
    *shelf.answer.lock() = Some(Answer::Rows(Arc::new(entry)));
    let rows = scene.ask(&notes(), &nobody).await.unwrap();
    *shelf.answer.lock() = Some(Answer::Count(Count { head, number: 0, counted_at: read_at, until: None }));
    (rows, scene.count(&notes(), &nobody).await)
}

#[tokio::test]
async fn what_was_read_by_a_clock_far_ahead_is_no_answer() {
    assert_eq!(shared_from(7_200).await, (3, 3));
    assert_eq!(shared_from(0).await, (0, 0), "control: what is shared is believed otherwise");
}

#[tokio::test]
async fn an_answer_that_is_ahead_by_a_moment_is_waited_for() {
    let (shelf, nobody) = (Arc::new(Shelf::default()), Access::default());
    let scene = Scene::before(Some(shelf.clone())).await;
    scene.open();
    let mut head = scene.log.head();
    head.position = head.position.next();
    let row = |n: u8| crate::types::Key { created_at: 1, id: EventId::from_bytes([n; 32]) };
    let rows = (1..=5).map(|n| Row { key: row(n), expires_at: None, text: "{}".into() }).collect();
    let entry = Snapshot { head, limit: 40, rows, complete: true, read_at: now() };
    *shelf.answer.lock() = Some(Answer::Rows(Arc::new(entry)));
    // The query begins first, and the log's entry comes while it waits.
    let (filter, id) = (notes(), Mutex::new(None));
    let come = async { *id.lock() = Some(scene.publish(7, &[], 4).await) };
    let (rows, ()) = join(scene.ask(&filter, &nobody), come).await;
    assert_eq!((rows.unwrap(), scene.reads()), (5, 0));
}

#[tokio::test]
async fn what_expires_while_it_is_counted_is_counted_once_for_all() {
    let (nobody, filter) = (Access::default(), notes());
    let scene = Scene::before(Some(Arc::new(Shelf::default()))).await;
    let soon = now() + 2;
    scene.publish(1, &[vec!["expiration".to_owned(), soon.to_string()]], 4).await;
    let all = join_all((0..20).map(|_| scene.count(&filter, &nobody)));
    let opened = async {
        // The gate holds the count until the event has expired.
        deploy::until(
            "it to expire",
            deploy::STEP_TIMEOUT,
            async || if now() > soon { Ok(()) } else { Err(String::new()) },
        )
        .await
        .unwrap();
        scene.open();
    };

    let (counts, ()) = join(all, opened).await;
    assert_eq!((counts, scene.reads()), (vec![3; 20], 1));
}
