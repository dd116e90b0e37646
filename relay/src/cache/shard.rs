//! A shard of the layer in the process: its entries, their registrations in a matcher, and its head. One lock guards
//! all of it, so a reader never sees half of a log entry applied.

use super::admission::Popularity;
use super::query::HashedKey;
use super::{Answer, FilterKey, Listed};
use crate::matcher::Matcher;
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, Filter, Head, LogEntry, Registration};
use lru::LruCache;
use rustc_hash::FxBuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An entry larger than this share of a shard is not kept.
const LARGEST_SHARE: usize = 8;

/// Bytes of an entry beside its rows: its place in the map and in the matcher. Then the bytes of each value of its
/// filter: the value in the key and in the matcher, and its posting.
const ENTRY_BYTES: usize = 1_024;
const VALUE_BYTES: usize = 128;

/// An entry that has taken this many changes since its last hit is evicted: the changes have then cost a good part of
/// what reading it again will cost, at about a microsecond each.
const IDLE_CHANGES: u32 = 256;

/// One cached answer.
struct CacheEntry {
    /// Exact as of the shard's head, or as of its own head where that is later.
    answer: Answer,
    registration: Registration,
    bytes: usize,
    /// Changes that it has taken since its last hit.
    idle_changes: u32,
    hits: u64,
    /// How often the answer was read since the key came into the cache.
    reads: u64,
    /// How long the last read took, which each hit saves.
    cost: Duration,
    /// When the shared layer was last offered the answer.
    offered: Instant,
}

/// An entry that a query has found.
pub(super) struct CacheHit {
    pub(super) answer: Answer,
    /// The head that the answer is exact as of; the answer's own head may be older.
    pub(super) head: Head,
    /// The caller is to offer the answer to the shared layer again.
    pub(super) renew: bool,
}

impl CacheEntry {
    /// `head` is the shard's.
    fn found(&self, head: Head) -> CacheHit {
        let read_at = self.answer.head();
        let head = if read_at.position > head.position { read_at } else { head };
        CacheHit { answer: self.answer.clone(), head, renew: false }
    }
}

/// What became of an answer that [`Shard::keep`] was given.
pub(super) enum KeepOutcome {
    /// The answer is in the cache, or did not deserve the room.
    Done,
    /// The shard's head is later: the caller brings the answer up to date and tries again.
    Outdated(Answer),
}

/// An entry as an operator sees it.
#[derive(Debug, Clone)]
pub struct HotEntry {
    /// The key.
    pub key: FilterKey,
    /// Hits.
    pub hits: u64,
    /// Reads, from the shared layer or the store, since the key came into the cache.
    pub reads: u64,
    /// Rows; 0 for a count.
    pub rows: usize,
    /// About how many bytes it takes.
    pub bytes: usize,
    /// How long the last read took.
    pub cost: Duration,
}

impl HotEntry {
    /// The time that its hits have saved.
    pub fn saved(&self) -> Duration {
        self.cost.saturating_mul(u32::try_from(self.hits).unwrap_or(u32::MAX))
    }
}

/// What a shard holds and has evicted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardFacts {
    /// Entries.
    pub entries: usize,
    /// About how many bytes the entries take.
    pub bytes: usize,
    /// Entries evicted since the start.
    pub evictions: u64,
}

pub(super) struct Shard {
    head: Head,
    entries: LruCache<HashedKey, CacheEntry, FxBuildHasher>,
    matcher: Matcher<HashedKey>,
    popularity: Popularity,
    /// Entries that are counts.
    counts: usize,
    bytes: usize,
    max_bytes: usize,
    evictions: u64,
}

impl Shard {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            head: Head::default(),
            entries: LruCache::unbounded_with_hasher(FxBuildHasher),
            matcher: Matcher::new(),
            popularity: Popularity::new(),
            counts: 0,
            bytes: 0,
            max_bytes,
            evictions: 0,
        }
    }

    /// Forgets everything and continues after `head`.
    pub(super) fn flush(&mut self, head: Head) {
        self.head = head;
        if !ablated(Safeguard::CacheFlush) {
            self.entries.clear();
            self.matcher = Matcher::new();
            self.counts = 0;
            self.bytes = 0;
        }
    }

    /// Applies the entry after the head.
    pub(super) fn apply(&mut self, log_entry: &LogEntry) {
        if !log_entry.whole && self.counts > 0 && !ablated(Safeguard::SureCounts) {
            // An entry that is not whole leaves out events whose removal is still to come. No count includes those
            // events, so none could be corrected by that removal.
            let older = |answer: &Answer| answer.head().position < log_entry.position;
            self.forget_those(|_, answer| matches!(answer, Answer::Count(_)) && older(answer));
        }

        let Self { entries, matcher, bytes, .. } = self;
        let (mut idle, mut unsure) = (Vec::new(), Vec::new());
        if !entries.is_empty() {
            for change in log_entry.changes.iter() {
                let (event, inserted) = match change {
                    Change::Inserted(insertion) => (&insertion.event, true),
                    Change::Removed(_) if ablated(Safeguard::CachedRemovals) => continue,
                    Change::Removed(removal) => (&removal.event, false),
                };
                matcher.for_each_match(event, |hashed| {
                    let Some(kept) = entries.peek_mut(hashed).filter(|_| hashed.key().shows(event)) else { return };
                    if kept.answer.head().position >= log_entry.position {
                        // The answer was read after this entry, and includes it.
                        return;
                    }
                    kept.idle_changes += 1;
                    if kept.idle_changes == IDLE_CHANGES {
                        idle.push(hashed.clone());
                        return;
                    }
                    let entry = match &mut kept.answer {
                        Answer::Rows(entry) => Arc::make_mut(entry),
                        Answer::Count(count) if inserted => return count.insert(event),
                        Answer::Count(count) => {
                            if count.remove(event).is_err() {
                                unsure.push(hashed.clone());
                            }
                            return;
                        }
                    };
                    let difference = if inserted { entry.insert(event) } else { entry.remove(event) };
                    for bytes in [&mut kept.bytes, &mut *bytes] {
                        *bytes = (*bytes + difference.added).saturating_sub(difference.removed);
                    }
                });
            }
        }

        for hashed in &unsure {
            self.remove(hashed);
        }
        for hashed in &idle {
            self.evictions += u64::from(self.remove(hashed).is_some());
        }

        self.head.position = log_entry.position;
        while self.bytes > self.max_bytes && self.evict() {}
    }

    /// Counts a request for `hashed` and looks it up. With `renew_after`, the hit says when the shared layer is due to
    /// get the answer again.
    pub(super) fn find(&mut self, hashed: &HashedKey, renew_after: Option<Duration>) -> Option<CacheHit> {
        self.popularity.note(hashed.hash());
        let kept = self.entries.get_mut(hashed)?;
        kept.hits += 1;
        kept.idle_changes = 0;
        let renew = renew_after.is_some_and(|after| kept.offered.elapsed() >= after);
        if renew {
            kept.offered = Instant::now();
        }
        Some(CacheHit { renew, ..kept.found(self.head) })
    }

    /// Looks `hashed` up without counting a request: a query that has been counted looks again.
    pub(super) fn find_again(&mut self, hashed: &HashedKey) -> Option<CacheHit> {
        self.entries.peek(hashed).map(|kept| kept.found(self.head))
    }

    /// Keeps an answer in the place of an older one of the same key, if it deserves the room. `cost` is how long the
    /// read took.
    pub(super) fn keep(&mut self, hashed: &HashedKey, answer: Answer, cost: Duration) -> KeepOutcome {
        let head = answer.head();
        if head.epoch != self.head.epoch || head.position < self.head.position {
            return KeepOutcome::Outdated(answer);
        }

        let bytes = bytes_of(hashed.key(), &answer);
        let (hits, reads) = self.remove(hashed).unwrap_or_default();
        if bytes > self.max_bytes / LARGEST_SHARE || !self.make_room(hashed, bytes) {
            return KeepOutcome::Done;
        }

        self.bytes += bytes;
        self.counts += usize::from(matches!(answer, Answer::Count(_)));
        let registration = self.matcher.insert(hashed.key().filters(), hashed.clone());
        let (reads, offered) = (reads + 1, Instant::now());
        let kept = CacheEntry { answer, registration, bytes, idle_changes: 0, hits, reads, cost, offered };
        self.entries.put(hashed.clone(), kept);
        KeepOutcome::Done
    }

    /// Evicts entries until `bytes` are free, unless one of them is requested at least as often as `hashed`.
    fn make_room(&mut self, hashed: &HashedKey, bytes: usize) -> bool {
        let needed = (self.bytes + bytes).saturating_sub(self.max_bytes);
        let popularity = self.popularity.of(hashed.hash());
        let (mut freed, mut count) = (0, 0);
        for (victim, kept) in self.entries.iter().rev() {
            if freed >= needed {
                break;
            }
            if self.popularity.of(victim.hash()) >= popularity && !ablated(Safeguard::Admission) {
                return false;
            }
            freed += kept.bytes;
            count += 1;
        }
        (0..count).all(|_| self.evict())
    }

    /// Evicts the entry whose last hit is the oldest; false where there is none.
    fn evict(&mut self) -> bool {
        let Some((_, kept)) = self.entries.pop_lru() else { return false };
        self.evictions += 1;
        self.forget(kept);
        true
    }

    /// Takes an entry out; returns its hits and reads.
    fn remove(&mut self, hashed: &HashedKey) -> Option<(u64, u64)> {
        let kept = self.entries.pop(hashed)?;
        let history = (kept.hits, kept.reads);
        self.forget(kept);
        Some(history)
    }

    fn forget(&mut self, kept: CacheEntry) {
        self.bytes = self.bytes.saturating_sub(kept.bytes);
        self.counts -= usize::from(matches!(kept.answer, Answer::Count(_)));
        self.matcher.remove(kept.registration);
    }

    /// Forgets the entries for which `concerns` is true; returns their number.
    pub(super) fn forget_those(&mut self, concerns: impl Fn(&FilterKey, &Answer) -> bool) -> usize {
        let concerned = self.entries.iter().filter(|(hashed, kept)| concerns(hashed.key(), &kept.answer));
        let keys: Vec<HashedKey> = concerned.map(|(hashed, _)| hashed.clone()).collect();
        keys.iter().filter(|hashed| self.remove(hashed).is_some()).count()
    }

    /// Every entry, as an operator sees it.
    pub(super) fn all(&self) -> impl Iterator<Item = HotEntry> {
        self.entries.iter().map(|(hashed, kept)| HotEntry {
            key: hashed.key().clone(),
            hits: kept.hits,
            reads: kept.reads,
            rows: kept.answer.rows().count(),
            bytes: kept.bytes,
            cost: kept.cost,
        })
    }

    pub(super) fn facts(&self) -> ShardFacts {
        ShardFacts { entries: self.entries.len(), bytes: self.bytes, evictions: self.evictions }
    }
}

fn bytes_of(key: &FilterKey, answer: &Answer) -> usize {
    let filters: usize = key.filters().iter().map(bytes_of_filter).sum();
    ENTRY_BYTES + filters + answer.rows().map(Listed::bytes).sum::<usize>()
}

fn bytes_of_filter(filter: &Filter) -> usize {
    let values = filter.ids.as_deref().map_or(0, <[_]>::len)
        + filter.authors.as_deref().map_or(0, <[_]>::len)
        + filter.kinds.as_deref().map_or(0, <[_]>::len)
        + filter.tags.iter().map(|condition| condition.values.len()).sum::<usize>();
    let texts: usize = filter.tags.iter().flat_map(|condition| &condition.values).map(|value| value.len()).sum();
    values * VALUE_BYTES + 2 * texts
}
