//! Two writers on connections of their own, at the same time, on the same events (docs/decisions/0008).

use super::*;
use std::time::Duration;
use tokio::time::Instant;

/// How many races a test runs; `RACES` for more.
fn races(default: usize) -> usize {
    std::env::var("RACES").map_or(default, |races| races.parse().unwrap())
}

/// How often the insertion of an event on one connection and its deletion on another left both behind.
async fn insertions_against_deletions(server: &Server, rounds: usize) -> usize {
    let (mut one, hasher) = server.migrated().await;
    let mut two = server.connect().await;
    let (mut wrong, mut deleted_first) = (0, 0);
    for _ in 0..rounds {
        let note = event(1, 1, 10, &[tag("t", "x")], &server.next().to_string());
        let request = deletion_of(&note);
        let (batch, other) = ([note.clone()], [request]);
        let (inserted, deleted) = tokio::join!(put(&mut one, &hasher, &batch), put(&mut two, &hasher, &other));
        assert_eq!(deleted.unwrap().outcomes, [Outcome::Stored]);
        deleted_first += usize::from(inserted.unwrap().outcomes == [Outcome::Deleted]);
        let seen = Seen::look(&mut one, vec![note.event().id()], &[], &[]).await.unwrap();
        assert!(!seen.tombstones.is_empty());
        wrong += usize::from(!seen.stored.is_empty());
    }
    println!("{rounds} races: {wrong} wrong, the deletion came first in {deleted_first}");
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insertion_races_its_deletion() {
    let server = Server::start().await;
    assert_eq!(insertions_against_deletions(&server, races(1_000)).await, 0);
    assert_whole(&mut server.connect().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_without_the_check_deleted_events_stay() {
    let server = Server::start().await;
    let (mut conn, _) = server.migrated().await;
    without_check(&mut conn).await;
    assert!(insertions_against_deletions(&server, 400).await > 0);
}

/// Two writers bring versions of one profile; returns how often the result was not the newest version alone.
async fn versions_against_versions(server: &Server, rounds: usize) -> usize {
    let (mut one, hasher) = server.migrated().await;
    let mut two = server.connect().await;
    let mut wrong = 0;
    let mut at = 1_000;
    for _ in 0..rounds {
        at += 2;
        let (older, newer) = (event(1, 0, at, &[], "older"), event(1, 0, at + 1, &[], "newer"));
        let (batch, other) = ([older], [newer.clone()]);
        let (first, second) = tokio::join!(put(&mut one, &hasher, &batch), put(&mut two, &hasher, &other));
        let healthy = first.is_ok() && second.is_ok_and(|done| done.outcomes == [Outcome::Stored]);
        let ids: Vec<Vec<u8>> = sqlx::query_scalar("SELECT id FROM event").fetch_all(&mut one).await.unwrap();
        wrong += usize::from(!healthy || ids != [newer.event().id().as_bytes().to_vec()]);
        if wrong > 0 {
            break;
        }
    }
    println!("{rounds} races of versions: {wrong} wrong");
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_race_and_the_newest_wins() {
    let server = Server::start().await;
    assert_eq!(versions_against_versions(&server, races(1_000)).await, 0);
    assert_whole(&mut server.connect().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_without_the_check_two_versions_stay() {
    let server = Server::start().await;
    let (mut conn, _) = server.migrated().await;
    without_check(&mut conn).await;
    assert!(versions_against_versions(&server, 400).await > 0);
}

/// The long form of both, for `make soak`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes"]
async fn ten_thousand_races_of_each() {
    let server = Server::start().await;
    assert_eq!(insertions_against_deletions(&server, races(10_000)).await, 0);
    let (mut conn, _) = server.migrated().await;
    run(&mut conn, "DELETE FROM event; DELETE FROM event_text; DELETE FROM tag").await;
    assert_eq!(versions_against_versions(&server, races(10_000)).await, 0);
}

/// Many writers, the same few events, replaceable events and deletions, in batches: no deadlock, no loss, and all
/// agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_the_same_events_agree() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..6_u64 {
        let mut conn = server.connect().await;
        writers.spawn(async move {
            let mut stored = 0;
            for round in 0..60_u64 {
                // Every writer has the same events in another order.
                let mut batch: Vec<_> = (0..12).map(|n| event(1, 1, 10, &[], &format!("{}", round * 12 + n))).collect();
                batch.push(event(2, 0, i64::try_from(round).unwrap(), &[], "profile"));
                batch.push(deletion_of(&event(1, 1, 10, &[], &format!("{}", round * 12 + 20))));
                batch.rotate_left((writer * 5 % 14) as usize);
                let done = put(&mut conn, &hasher, &batch).await.unwrap();
                stored += done.outcomes.iter().filter(|outcome| **outcome == Outcome::Stored).count();
            }
            stored
        });
    }
    let stored: usize = writers.join_all().await.into_iter().sum();
    let inserted = number(&mut conn, "SELECT count(*) FROM log, unnest(ops) op WHERE op = 0").await;
    assert_eq!(i64::try_from(stored).unwrap(), inserted, "every event was stored by one writer");
    assert_whole(&mut conn).await;
    let deadlocks =
        number(&mut conn, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await;
    assert_eq!(deadlocks, 0);
    assert!(started.elapsed() < Duration::from_secs(120));
}

/// A writer that others overtake again and again holds them back in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overtaken_writer_comes_through() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    put(&mut conn, &hasher, &[event(1, 0, 1, &[], "first")]).await.unwrap();
    // Each call finds the address changed since its lookup, unless the gate is held.
    run(
        &mut conn,
        "CREATE FUNCTION overtake() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted) THEN
                 UPDATE address SET deleted_up_to = coalesce(deleted_up_to, -1000) + 1;
                 UPDATE head SET position = position + 1;
             END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER overtake AFTER INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION overtake()",
    )
    .await;
    let done = put(&mut conn, &hasher, &[event(1, 0, 2, &[], "second")]).await.unwrap();
    assert_eq!(done.outcomes, [Outcome::Stored]);
    // The three stale rounds were undone, the overtaking in them included.
    assert_eq!(done.head.position, Position(2));
    assert_whole(&mut conn).await;
}
