//! The events of a run, which are made and signed before they are due, and the outcome of each.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};

/// The relay's answer to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PublishOutcome {
    /// Nothing yet.
    None,
    /// OK true.
    Accepted,
    /// OK true, as a duplicate: no delivery is due.
    Duplicate,
    /// OK false.
    Refused,
    /// The connection broke before an OK came: the event may be stored or not.
    Unknown,
}

/// One event of the run. Times are nanoseconds since the run's origin; 0 is never.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) id: [u8; 32],
    pub(super) text: Box<str>,
    /// The author's rank.
    pub(super) author: u32,
    pub(super) kind: u16,
    /// Unix seconds.
    pub(super) created_at: u64,
    /// The ranks of the authors that its `p` tags name.
    pub(super) mentions: Box<[u32]>,
    /// When it is due, in nanoseconds since the start.
    pub(super) due: u64,
    /// The URL it was published through.
    pub(super) via: AtomicU16,
    /// When it was due, as time since the run's origin: latencies begin here.
    pub(super) intended: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) answered: AtomicU64,
    verdict: AtomicU8,
    /// True where a newer version (NIP-01, replaceable) may replace the event before it has reached all subscribers.
    pub(super) superseded: AtomicBool,
}

impl Planned {
    pub(super) fn new(
        id: [u8; 32],
        text: String,
        (author, kind, created_at): (u32, u16, u64),
        mentions: Vec<u32>,
        due: u64,
    ) -> Self {
        Self {
            id,
            text: text.into(),
            author,
            kind,
            created_at,
            mentions: mentions.into(),
            due,
            via: AtomicU16::new(0),
            intended: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            verdict: AtomicU8::new(PublishOutcome::None as u8),
            superseded: AtomicBool::new(false),
        }
    }

    pub(super) fn verdict(&self) -> PublishOutcome {
        match self.verdict.load(Ordering::Acquire) {
            1 => PublishOutcome::Accepted,
            2 => PublishOutcome::Duplicate,
            3 => PublishOutcome::Refused,
            4 => PublishOutcome::Unknown,
            _ => PublishOutcome::None,
        }
    }

    /// Records the answer. Stores `now` first: a thread that sees the verdict must see its time.
    pub(super) fn judge(&self, verdict: PublishOutcome, now: u64) {
        self.answered.store(now, Ordering::Release);
        self.verdict.store(verdict as u8, Ordering::Release);
    }

    pub(super) fn was_sent(&self) -> bool {
        self.sent.load(Ordering::Acquire) != 0
    }
}

/// The first eight bytes of an id.
pub(super) fn prefix(id: &[u8; 32]) -> u64 {
    id.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// True for kinds of which a relay keeps one event for each author (NIP-01).
pub(super) fn is_replaceable(kind: u16) -> bool {
    matches!(kind, 0 | 3 | 10_000..20_000)
}

/// [`CHUNK`] events in a row; the last chunk may have fewer.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) events: Box<[Planned]>,
    /// How many threads have settled it.
    pub(super) released: AtomicUsize,
}

/// The number of events of a chunk.
pub(super) const CHUNK: usize = 64;
/// The most events that are ready before they are due, about 200 MB.
pub(super) const AHEAD: u64 = 150_000;

/// The chunks that some thread has not settled. An event is pushed here before it is sent, so every thread can find the
/// events that it receives.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pages: Mutex<Pages>,
    room: Condvar,
    /// How many events were sent, or will never be.
    pub(super) gone: AtomicU64,
}

#[derive(Debug, Default)]
struct Pages {
    /// How many chunks have been dropped at the front.
    over: usize,
    chunks: VecDeque<Arc<Chunk>>,
    made: u64,
    /// True once no more events will come.
    ended: bool,
}

impl Timeline {
    /// Adds a chunk; blocks while [`AHEAD`] events are ready. False: the run wants no more.
    pub(super) fn push(&self, events: Vec<Planned>) -> bool {
        let mut pages = self.pages.lock();
        while !pages.ended && self.ahead(&pages) >= AHEAD {
            self.room.wait(&mut pages);
        }
        if pages.ended {
            return false;
        }
        pages.made += events.len() as u64;
        pages.chunks.push_back(Arc::new(Chunk { events: events.into(), released: AtomicUsize::new(0) }));
        true
    }

    /// Ends the timeline: no more events will come.
    pub(super) fn end(&self) {
        self.pages.lock().ended = true;
        self.room.notify_all();
    }

    /// The chunk at `place`; `Err(true)` when it will never come.
    pub(super) fn chunk(&self, place: usize) -> Result<Arc<Chunk>, bool> {
        let pages = self.pages.lock();
        let at = place.checked_sub(pages.over).ok_or(true)?;
        pages.chunks.get(at).cloned().ok_or(pages.ended)
    }

    /// True once all events are there, or [`AHEAD`] of them.
    pub(super) fn is_ready(&self) -> bool {
        let pages = self.pages.lock();
        pages.ended || self.ahead(&pages) >= AHEAD
    }

    /// How many events have been made.
    pub(super) fn made(&self) -> u64 {
        self.pages.lock().made
    }

    /// Drops the chunks that all of `threads` have settled.
    pub(super) fn trim(&self, threads: usize) {
        let mut pages = self.pages.lock();
        while pages.chunks.front().is_some_and(|chunk| chunk.released.load(Ordering::Acquire) == threads) {
            pages.chunks.pop_front();
            pages.over += 1;
        }
        if self.ahead(&pages) < AHEAD {
            self.room.notify_all();
        }
    }

    fn ahead(&self, pages: &Pages) -> u64 {
        pages.made.saturating_sub(self.gone.load(Ordering::Relaxed))
    }
}
