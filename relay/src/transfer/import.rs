//! Import: parses and verifies lines on every core, and stores them in batches by one writer.
//!
//! To resume, run the same import again: a stored event is recognised by its id before its signature is checked, so it
//! costs little more than to read it.

use super::vanish;
use crate::policy::{MALFORMED_EXPIRATION, RelayUrl, check_vanish};
use crate::store::rules::Vanish;
use crate::store::{Outcome, Store, StoreError};
use crate::types::{Event, Kind, KindClass, Position, Verified, now};
use crate::verify::Verifier;
use std::io::BufRead;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How many lines are one batch, and one transaction.
const BATCH: usize = 2_048;

/// The bytes at which a batch is full, too: 4 MiB. Lines may be long, and a few batches are in memory at once.
const BATCH_BYTES: u64 = 4 << 20;

/// How an import treats its source.
#[derive(Debug, Clone)]
pub struct ImportSettings {
    /// Check signatures. Ids are always checked.
    pub verify: bool,
    /// How many batches are parsed and verified at the same time.
    pub threads: usize,
    /// The longest line that is read, in bytes; a longer one is rejected unread.
    pub max_line_bytes: usize,
    /// The addresses under which this relay is known: a request to vanish from another one is not kept (NIP-62).
    pub own_urls: Vec<RelayUrl>,
}

/// The outcomes of the lines, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Lines read, empty ones aside.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Events newly stored.
    pub stored: u64,
    /// Events that were there before.
    pub duplicate: u64,
    /// Older versions of replaceable or addressable events.
    pub superseded: u64,
    /// Events whose deletion is on record.
    pub deleted: u64,
    /// Events that have expired, that are ephemeral, that ask other relays to forget their author, or whose author has
    /// asked this one: none of them is kept.
    pub not_kept: u64,
    /// Lines that are no valid event.
    pub rejected: u64,
}

/// A line that is no valid event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The line's number, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
    /// The line as it was read, unless it was too long or no UTF-8.
    pub text: Option<String>,
}

/// Why an import stopped. What was reported as stored is stored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source could not be read.
    #[error("cannot read the source: {0}")]
    Read(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A worker panicked; its message says where.
    #[error("a worker panicked")]
    Panicked,
}

struct Line {
    number: u64,
    text: Result<String, String>,
}

struct Batch {
    lines: Vec<Line>,
    bytes: u64,
}

/// Reads events from `source` until its end and stores them. `progress` is called after each batch with the totals so
/// far and with the lines that were rejected in it.
pub async fn import(
    source: Box<dyn BufRead + Send>,
    store: Arc<dyn Store>,
    settings: ImportSettings,
    mut progress: impl FnMut(&ImportReport, Vec<Rejected>),
) -> Result<ImportReport, ImportError> {
    // A lagging replica may still have events that were deleted before the import began, so it must not answer.
    let begun = store.head().await?.position;
    let own_urls: Arc<[RelayUrl]> = settings.own_urls.into();
    let mut vanished = Vec::new();
    let (batches_in, mut batches) = mpsc::channel(2);
    let (end_in, end) = oneshot::channel();
    // The thread is never joined: it may be blocked on a source that sends nothing more.
    std::thread::Builder::new().name("import".to_owned()).spawn(move || {
        let read = read_batches(source, settings.max_line_bytes, &batches_in);
        // The receiver is gone where an error has ended the import.
        let _ = end_in.send(read);
    })?;
    let mut total = ImportReport::default();
    let mut workers = JoinSet::new();
    let mut at_end = false;
    loop {
        // Batches are worked on side by side; each one's events enter the store in one transaction.
        tokio::select! {
            batch = batches.recv(), if !at_end && workers.len() < settings.threads.max(1) => match batch {
                Some(batch) => {
                    let stored = store_batch(store.clone(), begun, batch, settings.verify, own_urls.clone());
                    drop(workers.spawn(stored));
                }
                None => at_end = true,
            },
            Some(done) = workers.join_next() => {
                let (report, rejected, requests) = done.map_err(|_| ImportError::Panicked)??;
                vanished.extend(requests);
                total.add(&report);
                progress(&total, rejected);
            }
            else => break,
        }
    }
    end.await.map_err(|_| ImportError::Panicked)??;
    // Their floors were set when they were stored; now the events below the floors are removed.
    for request in &vanished {
        vanish(&*store, request, |_| ()).await?;
    }
    Ok(total)
}

fn read_batches(
    mut source: Box<dyn BufRead + Send>,
    max_line_bytes: usize,
    batches: &mpsc::Sender<Batch>,
) -> Result<(), std::io::Error> {
    let mut number = 0;
    loop {
        let mut batch = Batch { lines: Vec::with_capacity(BATCH), bytes: 0 };
        while batch.lines.len() < BATCH && batch.bytes < BATCH_BYTES {
            let mut line = Vec::new();
            let read = read_line(&mut source, max_line_bytes, &mut line)?;
            if read == 0 {
                break;
            }
            number += 1;
            batch.bytes += read;
            let text = if line.len() > max_line_bytes {
                Err(format!("longer than {max_line_bytes} bytes"))
            } else {
                String::from_utf8(line).map_err(|_| "not UTF-8".to_owned())
            };
            if text.as_ref().is_ok_and(|text| text.trim().is_empty()) {
                continue;
            }
            batch.lines.push(Line { number, text });
        }
        if batch.bytes == 0 || batches.blocking_send(batch).is_err() {
            return Ok(());
        }
    }
}

/// Reads one line into `line`, at most one byte more than `max` of it; returns the bytes consumed.
fn read_line(source: &mut dyn BufRead, max: usize, line: &mut Vec<u8>) -> Result<u64, std::io::Error> {
    let mut consumed = 0;
    loop {
        let available = source.fill_buf()?;
        if available.is_empty() {
            return Ok(consumed);
        }
        let end = memchr::memchr(b'\n', available);
        let (content, used) = end.map_or((available, available.len()), |end| (&available[..end], end + 1));
        let room = (max + 1).saturating_sub(line.len());
        line.extend_from_slice(&content[..content.len().min(room)]);
        source.consume(used);
        consumed += used as u64;
        if end.is_some() {
            return Ok(consumed);
        }
    }
}

async fn store_batch(
    store: Arc<dyn Store>,
    begun: Position,
    batch: Batch,
    verify: bool,
    own_urls: Arc<[RelayUrl]>,
) -> Result<(ImportReport, Vec<Rejected>, Vec<Vanish>), ImportError> {
    let mut report = ImportReport { lines: batch.lines.len() as u64, bytes: batch.bytes, ..ImportReport::default() };
    let (events, mut rejected) = on_a_cpu(move || parse(batch.lines)).await?;
    let ids: Vec<_> = events.iter().map(|(_, _, event)| event.id()).collect();
    let (known, _) = store.known(&ids, begun).await?;
    let mut fresh = Vec::with_capacity(events.len());
    let now = now();
    for ((line, text, event), known) in events.into_iter().zip(known) {
        // These first, whether they are known or not: a store may still have an event that has expired.
        if event.kind().class() == KindClass::Ephemeral
            || event.is_expired(now)
            || (event.kind() == Kind::VANISH && check_vanish(&event, &own_urls).is_err())
        {
            report.not_kept += 1;
        } else if known {
            report.duplicate += 1;
        } else {
            fresh.push((line, text, event));
        }
    }
    let (verified, forged) = if verify { on_a_cpu(move || check(fresh)).await? } else { (trust(fresh), Vec::new()) };
    rejected.extend(forged);
    report.rejected = rejected.len() as u64;
    let mut vanished = Vec::new();
    if !verified.is_empty() {
        let requests: Vec<_> = verified.iter().map(|verified| Vanish::of(verified.event())).collect();
        for (outcome, request) in store.append(verified, now).await?.outcomes.into_iter().zip(requests) {
            match outcome {
                Outcome::Stored => {
                    report.stored += 1;
                    vanished.extend(request);
                }
                Outcome::Duplicate => report.duplicate += 1,
                Outcome::Superseded => report.superseded += 1,
                Outcome::Deleted => report.deleted += 1,
                Outcome::Expired | Outcome::Vanished => report.not_kept += 1,
            }
        }
    }
    rejected.sort_by_key(|rejected| rejected.line);
    Ok((report, rejected, vanished))
}

type Parsed = (u64, String, Arc<Event>);

async fn on_a_cpu<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ImportError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImportError::Panicked)
}

fn parse(lines: Vec<Line>) -> (Vec<Parsed>, Vec<Rejected>) {
    let mut events = Vec::with_capacity(lines.len());
    let mut rejected = Vec::new();
    for Line { number, text } in lines {
        match text {
            Ok(text) => match Event::parse(text.trim()) {
                // As for a client's EVENT: the event would never expire, though its author wants that.
                Ok(event) if event.has_malformed_expiration() => {
                    rejected.push(Rejected { line: number, reason: MALFORMED_EXPIRATION.to_owned(), text: Some(text) });
                }
                Ok(event) => events.push((number, text, Arc::new(event))),
                Err(error) => {
                    rejected.push(Rejected { line: number, reason: error.to_string(), text: Some(text) });
                }
            },
            Err(reason) => rejected.push(Rejected { line: number, reason, text: None }),
        }
    }
    (events, rejected)
}

fn check(events: Vec<Parsed>) -> (Vec<Verified>, Vec<Rejected>) {
    let verifier = Verifier::new();
    let mut good = Vec::with_capacity(events.len());
    let mut rejected = Vec::new();
    for (line, text, event) in events {
        match verifier.verify(&event) {
            Some(verified) => good.push(verified),
            None => {
                let reason = "the signature does not hold".to_owned();
                rejected.push(Rejected { line, reason, text: Some(text) });
            }
        }
    }
    (good, rejected)
}

fn trust(events: Vec<Parsed>) -> Vec<Verified> {
    events.into_iter().map(|(_, _, event)| Verified::vouch(event)).collect()
}

impl ImportReport {
    fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.stored += other.stored;
        self.duplicate += other.duplicate;
        self.superseded += other.superseded;
        self.deleted += other.deleted;
        self.not_kept += other.not_kept;
        self.rejected += other.rejected;
    }
}
