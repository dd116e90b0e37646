//! Export and import: exports beside writers, imports of arbitrary files.

#![allow(missing_docs, clippy::unwrap_used)]

mod store_kit;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use relay::store::rules::Vanish;
use relay::store::sqlite::{Options, SqliteStore};
use relay::store::{Appended, Counted, MemoryStore, Page, Read, Store, StoreError};
use relay::transfer::{ImportError, ImportSettings, export, export_pages, import};
use relay::types::{Access, Event, EventId, Filter, Head, Position, Row, Timestamp, Verified};
use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use store_kit::*;

const SETTINGS: ImportSettings =
    ImportSettings { verify: false, threads: 2, max_line_bytes: 16 << 20, own_urls: Vec::new() };

/// More than an export reads at once.
const NOTES: i64 = 2_500;

fn note(n: i64) -> Arc<Event> {
    event(1, 1, n, &[], &n.to_string())
}

async fn fill(store: &dyn Store, events: &[Arc<Event>]) {
    for batch in events.chunks(500) {
        append(store, &batch.iter().collect::<Vec<_>>()).await;
    }
}

/// The indexes in `events` of the lines.
fn found(lines: &[u8], events: &[&Arc<Event>]) -> Vec<bool> {
    let lines = std::str::from_utf8(lines).unwrap();
    events.iter().map(|event| lines.lines().any(|line| line == &**event.text())).collect()
}

/// A profile among the notes is replaced by a newer one after any batch of the export: one of the two is in the file.
#[tokio::test]
async fn an_export_by_pages_has_a_version_of_what_is_replaced_meanwhile() {
    for (old_at, new_at) in [(0, NOTES), (0, 0), (NOTES / 2, NOTES / 2 + 1), (NOTES / 2, NOTES), (NOTES, NOTES)] {
        let (low, high) = twins(2, 0, old_at, &[]);
        let newer = event(2, 0, new_at, &[], "newer");
        // Of the same second, the lower id is the newer version.
        let (old, new) = if old_at == new_at { (high, low) } else { (low, newer) };
        for piece in 0.. {
            let store = MemoryStore::new();
            let notes: Vec<_> = (0..NOTES).map(note).collect();
            fill(&store, &notes).await;
            put(&store, &old).await;
            let (mut lines, mut pieces) = (Vec::new(), 0);
            let replace = || append(&store, &[&new]).now_or_never().unwrap();
            let report = export_pages(&store, None, &mut lines, |_| {
                if pieces == piece {
                    replace();
                }
                pieces += 1;
            });

            let report = report.await.unwrap();
            let versions = found(&lines, &[&old, &new]);
            assert!(versions.contains(&true), "from {old_at} to {new_at}, after piece {piece}: neither");
            let both = u64::from(versions[0]) + u64::from(versions[1]);
            assert_eq!(report.written, NOTES as u64 + both);
            if piece >= pieces {
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_export_by_pages_is_whole_and_begins_with_the_oldest() {
    let store = MemoryStore::new();
    // Many notes in one second, gaps, and the largest date.
    let at = |n: i64| if n < 1_500 { 7 } else { 1_000 * n };
    let mut events: Vec<_> = (0..2_500).map(|n| event(1, 1, at(n), &[], &n.to_string())).collect();
    events.push(event(1, 1, Timestamp::MAX, &[], "last"));
    fill(&store, &events).await;
    let lines_of = async |filter: Option<&Filter>| {
        let mut lines = Vec::new();
        export_pages(&store, filter, &mut lines, |_| {}).await.unwrap();
        let lines = std::str::from_utf8(&lines).unwrap();
        lines.lines().map(|line| Event::parse(line).unwrap()).collect::<Vec<_>>()
    };

    let all = lines_of(None).await;
    assert_eq!(all.len(), events.len());
    assert!(all.is_sorted_by_key(Event::created_at));
    let some = Filter { since: Some(7), until: Some(at(2_000)), ..Filter::default() };
    assert_eq!(lines_of(Some(&some)).await.len(), 2_001);
    assert!(lines_of(Some(&Filter { since: Some(2), until: Some(1), ..some })).await.is_empty());
}

/// The same for a file. A version that expires is in another part of it than one that does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_a_file_has_a_version_of_what_is_replaced_meanwhile() {
    let expiration = [tag("expiration", "99999999999")];
    let versions: [&[Vec<String>]; 2] = [&[], &expiration];
    for (before, after) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
        for piece in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(Options::new(folder.path().join("relay.db"))).await.unwrap();
            let (old, new) = (event(2, 0, 1, versions[before], ""), event(2, 0, 2, versions[after], ""));
            let notes: Vec<_> = (0..NOTES).map(note).collect();
            let expiring: Vec<_> = (0..NOTES).map(|n| event(3, 1, n, &expiration, &n.to_string())).collect();
            fill(&store, &notes).await;
            fill(&store, &expiring).await;
            put(&store, &old).await;
            let (mut archive, mut lines, mut pieces) = (store.archive().await.unwrap(), Vec::new(), 0);
            let replace = || {
                let runtime = tokio::runtime::Handle::current();
                tokio::task::block_in_place(|| runtime.block_on(append(&store, &[&new])))
            };

            let report = export(&mut archive, None, &mut lines, |_| {
                if pieces == piece {
                    replace();
                }
                pieces += 1;
            });

            let report = report.await.unwrap();
            assert!(pieces > 4, "{pieces}");
            let versions = found(&lines, &[&old, &new]);
            assert!(versions.contains(&true), "from {before} to {after}, after piece {piece}: neither");
            let both = u64::from(versions[0]) + u64::from(versions[1]);
            assert_eq!(report.written, 2 * NOTES as u64 + both);
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_long_lines_is_a_short_one() {
    let store = Arc::new(Watched::default());
    let content = "x".repeat(1 << 20);
    let text: String = (0..40).map(|n| format!("{}\n", event(1, 1, n, &[], &content).text())).collect();
    let source = Box::new(BufReader::new(std::io::Cursor::new(text)));
    let report = import(source, store.clone(), SETTINGS, |_, _| {}).await.unwrap();
    assert_eq!(report.stored, 40);
    let largest = store.largest.load(Ordering::Relaxed);
    assert!((1 << 20..6 << 20).contains(&largest), "{largest} bytes in one transaction");
}

/// The events that an import leaves out, whatever the store has; those that it rejects, and with which words.
#[tokio::test]
async fn an_import_takes_neither_what_has_expired_nor_what_says_no_time() {
    let expires = |value: &str| event(1, 1, 1, &[tag("expiration", value)], value);
    let (known, later, unsaid) = (expires("5"), expires("99999999999"), expires(""));
    let store = Arc::new(MemoryStore::new());
    append_at(&*store, &[&known], 1).await;
    assert_eq!(store.known(&[known.id()], Position::default()).await.unwrap().0, [true], "it is stored and not swept");
    let malformed = ["-1", "1.5", " 5 ", "abc"].map(expires);
    let events = [&known, &later, &unsaid].into_iter().chain(&malformed);
    let text: String = events.map(|event| format!("{}\n", event.text())).collect();
    let mut rejected = Vec::new();
    let source = Box::new(BufReader::new(std::io::Cursor::new(text)));
    let report = import(source, store.clone(), SETTINGS, |_, lines| rejected.extend(lines)).await.unwrap();
    assert_eq!((report.stored, report.duplicate, report.not_kept, report.rejected), (2, 0, 1, 4));
    assert_eq!(rejected.iter().map(|rejected| rejected.line).collect::<Vec<_>>(), [4, 5, 6, 7]);
    assert!(rejected.iter().all(|rejected| rejected.reason.contains("expiration")), "{rejected:?}");
}

/// A source that has sent all it has, and neither ends nor sends more.
struct Silent(std::io::Cursor<String>, mpsc::Receiver<()>);

impl std::io::Read for Silent {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        if read == 0 {
            let _ = self.1.recv();
        }
        Ok(read)
    }
}

#[test]
fn an_import_that_fails_waits_for_nobody() {
    let text: String = (0..2_048).map(|n| format!("{}\n", note(n).text())).collect();
    let (_open, opened) = mpsc::sync_channel(1);
    let source = Box::new(BufReader::new(Silent(std::io::Cursor::new(text), opened)));
    let (ended_in, ended) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let store = Arc::new(Watched { fails: true, ..Watched::default() });
        let result = runtime.block_on(import(source, store, SETTINGS, |_, _| {}));
        // As at the end of the command.
        drop(runtime);
        ended_in.send(result).unwrap();
    });
    let result = ended.recv_timeout(Duration::from_secs(10)).expect("it waits for its source");
    assert!(matches!(result, Err(ImportError::Store(StoreError::Full))), "{result:?}");
}

/// A store that remembers its largest batch, or that is full.
#[derive(Default)]
struct Watched {
    store: MemoryStore,
    largest: AtomicUsize,
    fails: bool,
}

impl Store for Watched {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.store.head()
    }

    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        self.store.known(ids, at_least)
    }
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        self.store.now()
    }

    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        if self.fails {
            return async { Err(StoreError::Full) }.boxed();
        }
        self.largest.fetch_max(batch.iter().map(|event| event.event().text().len()).sum(), Ordering::Relaxed);
        self.store.append(batch, now)
    }

    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.store.read(read)
    }

    fn fetch<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.store.fetch(ids)
    }

    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>> {
        self.store.count(filters, access, at_least, now)
    }

    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.store.sweep_expired(now, max)
    }

    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.store.remove(filter, max)
    }

    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        self.store.vanish(vanish, max)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}
