//! The log as its followers read it (docs/decisions/0008).

use super::*;

fn words(changes: &[Change]) -> Vec<(bool, EventId)> {
    let word = |change: &Change| match change {
        Change::Inserted(insertion) => (true, insertion.event.id()),
        Change::Removed(removal) => (false, removal.id()),
    };
    changes.iter().map(word).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_reads_what_the_writers_did() {
    let server = Server::start().await;
    let (mut conn, hasher) = server.migrated().await;
    let start = log::entries(&mut conn, Position(0), 10).await.unwrap();
    assert!(start.entries.is_empty() && start.head.head.position == Position(0));
    let notes: Vec<_> = (0..5).map(|n| event(1, 1, n, &[tag("t", "x")], "")).collect();
    let expiring = event(1, 1, 20, &[tag("expiration", &(NOW + 1).to_string())], "");
    let mut done = vec![put(&mut conn, &hasher, &notes).await.unwrap()];
    done.push(put(&mut conn, &hasher, &[event(2, 0, 1, &[], ""), expiring]).await.unwrap());
    done.push(put(&mut conn, &hasher, &[event(2, 0, 2, &[], ""), deletion_of(&notes[0])]).await.unwrap());
    // Nothing changes, so nothing is logged.
    assert_eq!(put(&mut conn, &hasher, &notes).await.unwrap().head, done[2].head);
    done.push(sweep_expired(&mut conn, &hasher, Epoch(0), NOW + 5, 10).await.unwrap());
    let ids = [notes[1].event().id(), notes[2].event().id()];
    let filter = Filter { until: Some(1), ..Filter::default() };
    done.push(remove(&mut conn, &hasher, Epoch(0), &ids, &filter, RemovalCause::Administered).await.unwrap());
    assert_eq!(done[4].changes.len(), 1, "the filter selects one of the two");
    assert_eq!(done[4].head.position, Position(5));

    let read = log::entries(&mut conn, Position(0), 1_000).await.unwrap();
    assert_eq!(read.head, log::shared_head(&mut conn).await.unwrap());
    assert_eq!(read.head.head, done[4].head);
    let mut gone: Vec<EventId> = Vec::new();
    for done in &done {
        gone.extend(words(&done.changes).iter().filter(|(inserted, _)| !inserted).map(|(_, id)| *id));
    }
    assert_eq!(gone.len(), 4);
    for (entry, done) in read.entries.iter().zip(&done) {
        assert_eq!(entry.position, done.head.position);
        // An event that was removed since has no insertion any more; its removal comes further down.
        let mut expected = words(&done.changes);
        expected.retain(|(inserted, id)| !inserted || !gone.contains(id));
        assert_eq!(words(&entry.changes), expected);
        for change in &*entry.changes {
            if let Change::Removed(removal) = change {
                assert!(!removal.event.text().is_empty());
            }
        }
    }
    // In slices: at least one entry each.
    let mut at = Position(0);
    for _ in 0..5 {
        let piece = log::entries(&mut conn, at, 1).await.unwrap();
        assert_eq!(piece.entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [at.next()]);
        at = at.next();
    }
    assert!(log::entries(&mut conn, at, 1).await.unwrap().entries.is_empty());
    assert!(log::entries(&mut conn, Position(99), 1).await.unwrap().entries.is_empty(), "beyond the head");
    assert_whole(&mut conn).await;

    run(&mut conn, "DELETE FROM log WHERE position <= 2").await;
    assert!(matches!(log::entries(&mut conn, Position(1), 10).await, Err(StoreError::OutOfReach)));
    assert_eq!(log::entries(&mut conn, Position(2), 10).await.unwrap().entries.len(), 3);
    run(&mut conn, "DELETE FROM log WHERE position = 4").await;
    assert!(matches!(log::entries(&mut conn, Position(2), 10).await, Err(StoreError::Damaged(_))));
    run(&mut conn, "DELETE FROM log").await;
    assert!(matches!(log::entries(&mut conn, Position(2), 10).await, Err(StoreError::OutOfReach)));
}
