//! What only the embedded store promises: one owner, errors that heal, deadlines that stop a statement, backup and
//! export.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_kit;

use futures_util::FutureExt;
use relay::store::sqlite::{Archive, Options, SqliteStore};
use relay::store::{Outcome, Store, StoreError};
use relay::types::{Access, Event, Filter, Kind, Position, Verified};
use sqlx::{Connection, SqliteConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store_kit::*;

fn options(folder: &tempfile::TempDir) -> Options {
    Options::new(folder.path().join("relay.db"))
}

async fn by_hand(options: &Options) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite:{}", options.path.display())).await.unwrap()
}

fn notes(count: i64) -> Vec<Arc<Event>> {
    (0..count).map(|n| event((n % 7) as u8, 1, n, &[tag("t", "x")], &format!("{n}{}", "x".repeat(400)))).collect()
}

async fn fill(store: &SqliteStore, events: &[Arc<Event>]) {
    for batch in events.chunks(500) {
        append(store, &batch.iter().collect::<Vec<_>>()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(options(&folder)).await.unwrap();
    let (note, profile) = (event(1, 1, 10, &[], ""), event(1, 0, 20, &[tag("expiration", "99999999999")], ""));
    let done = append(&store, &[&note, &profile, &deletion(1, 30, &[e(&note)])]).await;
    store.close().await;
    let store = SqliteStore::open(options(&folder)).await.unwrap();
    assert_eq!(store.head().await.unwrap(), done.head, "epoch and position survive");
    assert_eq!(put(&store, &note).await, Outcome::Deleted);
    assert_eq!(put(&store, &event(1, 0, 19, &[], "")).await, Outcome::Superseded);
    assert_eq!(put(&store, &event(1, 0, 21, &[tag("expiration", "99999999999")], "")).await, Outcome::Stored);
    assert_eq!(stored(&store, &all()).await.len(), 2);

    // Dropped without a close, as after a crash.
    drop(store);
    let mut again = SqliteStore::open(options(&folder)).await;
    while matches!(again, Err(StoreError::InUse { .. })) {
        tokio::task::yield_now().await;
        again = SqliteStore::open(options(&folder)).await;
    }
    assert_eq!(stored(&again.unwrap(), &all()).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_owner_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(options(&folder)).await.unwrap();
    let error = SqliteStore::open(options(&folder)).await.err().unwrap();
    let said = error.to_string();
    assert!(matches!(error, StoreError::InUse { .. }));
    assert!(said.contains("relay.db") && said.contains(&format!("process {}", std::process::id())), "{said}");
    store.close().await;
    SqliteStore::open(options(&folder)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    SqliteStore::open(options(&folder)).await.unwrap().close().await;
    let mut connection = by_hand(&options(&folder)).await;
    let newer = "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time \
                 FROM _sqlx_migrations LIMIT 1";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let error = SqliteStore::open(options(&folder)).await.err().unwrap();
    assert!(matches!(error, StoreError::TooNew { found: 9999, .. }), "{error}");
    assert!(matches!(Archive::open(&options(&folder)).await, Err(StoreError::TooNew { .. })));

    let foreign = Options::new(folder.path().join("other.db"));
    std::fs::write(&foreign.path, "not a database at all, but long enough to be looked at. ".repeat(100)).unwrap();
    assert!(matches!(SqliteStore::open(foreign).await, Err(StoreError::Damaged(_))));
    let foreign = Options::new(folder.path().join("third.db"));
    std::fs::write(&foreign.path, "").unwrap();
    let mut connection = by_hand(&foreign).await;
    sqlx::query("CREATE TABLE mine (x)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert!(matches!(SqliteStore::open(foreign).await, Err(StoreError::Damaged(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_changes_nothing_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let tight = Options { max_file_bytes: Some(400 << 10), ..options(&folder) };
    let store = SqliteStore::open(tight).await.unwrap();
    let events = notes(3_000);
    let (mut taken, mut head) = (0, store.head().await.unwrap());
    let error = loop {
        let batch = events[taken..taken + 100].iter().map(|event| Verified::vouch(event.clone())).collect();
        match store.append(batch, NOW).await {
            Ok(done) => (taken, head) = (taken + 100, done.head),
            Err(error) => break error,
        }
    };

    assert!(matches!(error, StoreError::Full), "{error}");
    assert_eq!(stored(&store, &all()).await.len(), taken);
    assert_eq!(store.head().await.unwrap(), head);
    // Reads and removals go on, and what was refused can be written once there is room.
    assert_eq!(store.remove(&all(), 300).await.unwrap().changes.len(), 300);
    assert_eq!(put(&store, &events[taken]).await, Outcome::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_file_changes_nothing_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let hasty = Options { busy_timeout: Duration::from_millis(20), ..options(&folder) };
    let store = SqliteStore::open(hasty.clone()).await.unwrap();
    let mut other = by_hand(&hasty).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let note = event(1, 1, 1, &[], "");
    let refused = store.append(vec![Verified::vouch(note.clone())], NOW).await;
    assert!(matches!(refused, Err(StoreError::Locked)), "{refused:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(put(&store, &note).await, Outcome::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_statements_are_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(Options { readers: 1, ..options(&folder) }).await.unwrap();
    fill(&store, &notes(4_000)).await;
    // Two conditions that hold for every event, and never both: a walk over everything.
    let slow = Filter { tags: [tag_filter(b't', &["x"]), tag_filter(b'u', &["y"])].into(), ..all() };
    let filters: Vec<_> = (0..30).map(|n| Filter { since: Some(n), ..Filter::default() }).collect();
    assert_eq!(store.count(&filters, &Access::default(), Position::default(), NOW).await.unwrap().number, 4_000);
    assert!(page(&store, &slow, 10).await.rows.is_empty());
    store.close().await;

    let hasty = Options { readers: 1, read_timeout: Duration::from_micros(200), ..options(&folder) };
    let store = SqliteStore::open(hasty).await.unwrap();
    let stopped = store.count(&filters, &Access::default(), Position::default(), NOW).await;
    assert!(matches!(stopped, Err(StoreError::Timeout)), "{stopped:?}");
    assert!(store.head().await.is_ok(), "the connection is fit for the next one");
    store.close().await;

    // A read that its caller has dropped does not keep the only connection.
    let store = SqliteStore::open(Options { readers: 1, ..options(&folder) }).await.unwrap();
    let many: Vec<_> = (0..400).map(|n| Filter { since: Some(n % 7), until: Some(5_000 + n), ..all() }).collect();
    let begun = Instant::now();
    store.count(&many, &Access::default(), Position::default(), NOW).await.unwrap();
    let whole = begun.elapsed();
    for _ in 0..20 {
        let dropped =
            tokio::time::timeout(whole / 50, store.count(&many, &Access::default(), Position::default(), NOW)).await;
        assert!(dropped.is_err());
    }
    let begun = Instant::now();
    store.head().await.unwrap();
    assert!(begun.elapsed() < whole * 3, "{:?} against {whole:?} for one count", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let impatient = Options { readers: 1, acquire_timeout: Duration::ZERO, ..options(&folder) };
    let store = SqliteStore::open(impatient).await.unwrap();
    // All begin at once: while the first has the only connection, the others find none.
    let answers = futures_util::future::join_all((0..3_000).map(|_| store.head())).await;
    assert!(answers[0].is_ok());
    assert!(answers.iter().any(|answer| matches!(answer, Err(StoreError::Overloaded))));
    store.close().await;
    let patient = SqliteStore::open(Options { readers: 1, ..options(&folder) }).await.unwrap();
    let answers = futures_util::future::join_all((0..100).map(|_| patient.head())).await;
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_append_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(options(&folder)).await.unwrap();
    let events = notes(2_000);
    let batch: Vec<_> = events.iter().map(|event| Verified::vouch(event.clone())).collect();
    // Polled once, so that it is under way, and dropped.
    let mut append = store.append(batch, NOW);
    assert!(append.as_mut().now_or_never().is_none());
    drop(append);
    // The next write waits for it.
    put(&store, &event(1, 1, 9_999, &[], "")).await;
    assert_eq!(stored_count(&store).await, 2_001);
}

async fn stored_count(store: &SqliteStore) -> u64 {
    store.count(&[all()], &Access::default(), Position::default(), NOW).await.unwrap().number
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_an_export_of_a_running_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(options(&folder)).await.unwrap();
    let events = notes(1_200);
    fill(&store, &events).await;
    let wrap = event(1, 1059, 5, &[tag("p", &author(2).to_hex()), tag("expiration", "99999999999")], "");
    append(&store, &[&wrap]).await;

    let mut archive = store.archive().await.unwrap();
    let (mut texts, mut after) = (Vec::new(), None);
    loop {
        let piece = archive.export(after, 500).await.unwrap();
        assert!(piece.texts.len() <= 500);
        texts.extend(piece.texts);
        after = piece.next;
        if after.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = events.iter().chain([&wrap]).map(|event| event.text().clone()).collect();
    texts.sort();
    expected.sort();
    assert_eq!(texts, expected);

    let stats = archive.stats().await.unwrap();
    assert_eq!(stats.events_at_most, 1_201);
    assert!(stats.file_bytes + stats.wal_bytes > 600_000, "{stats:?}");

    let copy = folder.path().join("copy.db");
    archive.backup(&copy, |_, _| {}).await.unwrap();
    assert!(archive.backup(&copy, |_, _| {}).await.is_err(), "nothing is overwritten");
    let head = store.head().await.unwrap();
    append(&store, &[&event(3, 1, 77_777, &[], "after the backup")]).await;
    let restored = SqliteStore::open(Options::new(&copy)).await.unwrap();
    assert_eq!((restored.head().await.unwrap(), stored_count(&restored).await), (head, 1_200), "the wrap is private");
    let filter = Filter { kinds: sorted(&[Kind(1)]), tags: [tag_filter(b't', &["x"])].into(), ..all() };
    assert_eq!(page(&restored, &filter, 5).await.rows.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_does_not_grow_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options { checkpoint_bytes: 1 << 20, ..options(&folder) };
    let store = SqliteStore::open(small).await.unwrap();
    let wal = folder.path().join("relay.db-wal");
    let mut longest = 0;
    for batch in notes(20_000).chunks(100) {
        append(&store, &batch.iter().collect::<Vec<_>>()).await;
        longest = longest.max(std::fs::metadata(&wal).unwrap().len());
    }
    // Without checkpoints beside the writer it would reach SQLite's own mark of 20,000 pages, 40 MB.
    assert!(longest < 20 << 20, "{longest} bytes");
    assert_eq!(stored_count(&store).await, 20_000);
    store.close().await;
    assert!(!wal.exists(), "closing empties and removes the log");
}

/// A file from before the migration: its addressable events without a `d` are not filed under the empty identifier.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_program_has_stored_is_found_by_the_empty_identifier() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(options(&folder)).await.unwrap();
    let events = [
        event(1, 30_001, 10, &[], ""),
        event(1, 30_002, 11, &[tag("expiration", "99999999999")], "[\"d\",\""),
        event(1, 30_003, 12, &[tag("d", "x")], ""),
        event(1, 1, 13, &[], ""),
    ];
    append(&store, &events.iter().collect::<Vec<_>>()).await;
    store.close().await;
    let filter = Filter { tags: [tag_filter(b'd', &[""])].into(), ..all() };
    let count = async |store: &SqliteStore| {
        store.count(std::slice::from_ref(&filter), &Access::default(), Position::default(), NOW).await.unwrap().number
    };

    let mut connection = by_hand(&options(&folder)).await;
    sqlx::raw_sql("DELETE FROM tag WHERE hash = (SELECT empty_identifier FROM hashing)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let store = SqliteStore::open(options(&folder)).await.unwrap();
    assert_eq!(count(&store).await, 0, "control: they were filed once, and not again");
    store.close().await;

    let mut connection = by_hand(&options(&folder)).await;
    sqlx::raw_sql("ALTER TABLE hashing DROP COLUMN empty_identifier; DELETE FROM _sqlx_migrations WHERE version = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let store = SqliteStore::open(options(&folder)).await.unwrap();
    assert_eq!(stored(&store, &filter).await, id_list(&[&events[1], &events[0]]));
    assert_eq!(count(&store).await, 2);
    // A newer version takes the older one's place there.
    append(&store, &[&event(1, 30_001, 20, &[], "")]).await;
    assert_eq!(count(&store).await, 2);
}
