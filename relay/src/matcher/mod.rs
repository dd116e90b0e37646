//! Which subscriptions and cached results an event concerns.
//!
//! Every distinct filter is filed once, under the values of its rarest field, and holds the list of those who asked
//! it. An event looks up its own values and compares itself only with the filters found there: its cost follows what
//! matches, not how many subscribe. What that takes of memory is laid out for the processor's caches: see
//! docs/decisions/0005-matcher-layout.md.

mod block;
mod filing;
mod frequencies;
mod members;
mod postings;
mod probe;
mod question;
mod slab;
#[cfg(test)]
mod tests;

use crate::types::{Event, Filter, Registration};
#[cfg(test)]
use filing::Field;
use filing::{Key, rarest_field};
use frequencies::Frequencies;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use members::Member;
use postings::{Hashed, Postings};
use question::Question;
use slab::Slab;
use smallvec::SmallVec;
use std::cell::OnceCell;
use std::hash::{BuildHasher, RandomState};

/// The working memory that is kept from one event to the next, in numbers of 4 bytes a list.
const SCRATCH_KEPT: usize = 1 << 16;

/// How many questions are fetched before the first of them is looked at: more than a processor can fetch at once, and few
/// enough to stay in its nearest cache.
const AHEAD: usize = 64;

/// How much work the matcher has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MatcherStats {
    /// Events looked at.
    pub events: u64,
    /// Distinct filters compared with an event.
    pub candidates: u64,
    /// Those that matched.
    pub hits: u64,
}

/// One insertion: who asks one or more questions.
struct Asker<T> {
    target: T,
    /// The last event it was told of.
    told: u64,
    asks: SmallVec<[Tie; 2]>,
    /// Tells it from those that had its index before it.
    generation: u32,
}

/// That an asker asks a question.
#[derive(Clone, Copy)]
struct Tie {
    question: u32,
    /// Where in its list of askers.
    place: u32,
}

/// The index. `T` is whom to tell: a subscription, a cache entry. It may be cloned once, so it should be a mere handle; no
/// clone outlives its registration.
///
/// Memory at 1,000,000 distinct filters of one to ten values is about 560 bytes a filter, the filter included.
pub struct Matcher<T> {
    questions: Slab<Question<T>>,
    askers: Slab<Asker<T>>,
    /// The questions by the values they are filed under.
    filed: Postings,
    /// Finds equal questions.
    distinct: HashTable<u32>,
    distinct_secret: RandomState,
    frequencies: Frequencies,
    stats: MatcherStats,
    insertions: u32,
    scratch: Scratch,
    #[cfg(test)]
    blind: Option<fn(Field) -> bool>,
}

/// Lists that one event fills.
#[derive(Default)]
struct Scratch {
    /// Questions that may match.
    found: Vec<u32>,
    /// Those who ask one that does, and several in all, and so may have been told.
    several: Vec<u32>,
}

impl<T: Clone> Default for Matcher<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> Matcher<T> {
    /// An empty matcher with hash secrets of its own.
    pub fn new() -> Self {
        Self {
            questions: Slab::new(),
            askers: Slab::new(),
            filed: Postings::new(),
            distinct: HashTable::new(),
            distinct_secret: RandomState::new(),
            frequencies: Frequencies::new(),
            stats: MatcherStats::default(),
            insertions: 0,
            scratch: Scratch::default(),
            #[cfg(test)]
            blind: None,
        }
    }

    /// How many targets are registered.
    pub fn len(&self) -> usize {
        self.askers.len()
    }

    /// True when nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells every target.
    pub fn for_each_target(&self, mut tell: impl FnMut(&T)) {
        self.askers.values().for_each(|asker| tell(&asker.target));
    }

    /// How many different filters are filed; filters that no event can match are not.
    pub fn distinct_filters(&self) -> usize {
        self.questions.len()
    }

    /// The work done so far.
    pub fn stats(&self) -> MatcherStats {
        self.stats
    }

    /// Registers `target` for every event that at least one of `filters` matches. Takes time in proportion to the
    /// values in the filters.
    pub fn insert(&mut self, filters: &[Filter], target: T) -> Registration {
        self.insertions = self.insertions.wrapping_add(1);
        let generation = self.insertions;
        let asker = self.askers.vacant();
        let mut asks = SmallVec::<[Tie; 2]>::new();
        for filter in filters.iter().filter(|filter| !filter.is_impossible()) {
            let index = self.question(filter);
            if let Some(question) = self.questions.get_mut(index) {
                let ordinal = u32::try_from(asks.len()).unwrap_or(u32::MAX);
                asks.push(Tie { question: index, place: question.askers.push(Member { owner: asker, ordinal }) });
            }
        }
        if let [tie] = *asks {
            let question = self.questions.get_mut(tie.question);
            if let Some(asked_by) = question.and_then(|question| question.askers.get_mut(tie.place)) {
                asked_by.direct = Some(target.clone());
            }
        }
        self.askers.insert(Asker { target, told: 0, asks, generation });
        Registration(u64::from(generation) << 32 | u64::from(asker))
    }

    /// Ends a registration and returns its target, once. Takes time in proportion to the values in its own filters, no
    /// matter how many others share them.
    pub fn remove(&mut self, registration: Registration) -> Option<T> {
        let (generation, index) = ((registration.0 >> 32) as u32, registration.0 as u32);
        self.askers.get(index).filter(|asker| asker.generation == generation)?;
        let Asker { target, mut asks, .. } = self.askers.remove(index)?;
        let mut ordinal = 0;
        while let Some(tie) = asks.get(ordinal).copied() {
            ordinal += 1;
            let Some(question) = self.questions.get_mut(tie.question) else { continue };
            let moved = question.askers.swap_remove(tie.place);
            if question.askers.as_slice().is_empty() {
                self.forget(tie.question);
                continue;
            }
            if let Some(moved) = moved {
                // Whoever has moved into its place learns the new one; that may be this asker, which asked twice.
                let others = self.askers.get_mut(moved.owner).map(|asker| &mut asker.asks);
                let asks = if moved.owner == index { Some(&mut asks) } else { others };
                if let Some(entry) = asks.and_then(|asks| asks.get_mut(moved.ordinal as usize)) {
                    entry.place = tie.place;
                }
            }
        }
        Some(target)
    }

    /// Calls `tell` once for each target of which at least one filter matches `event`.
    pub fn for_each_match(&mut self, event: &Event, mut tell: impl FnMut(&T)) {
        self.stats.events += 1;
        let now = self.stats.events;
        self.frequencies.observe(event);
        self.find_candidates(event);

        // Each stage is a loop of its own over independent memory, so that the processor waits for many cache
        // misses at once rather than for one after the other.
        let Self { questions, askers, scratch: Scratch { found, several }, .. } = self;
        let (probe, mut candidates, mut hits) = (OnceCell::new(), 0, 0);
        several.clear();
        for some in found.chunks(AHEAD) {
            touch(some.iter().filter_map(|index| questions.get(*index)).map(|question| question.seen));
            for index in some {
                let Some(question) = questions.get_mut(*index) else { continue };
                if std::mem::replace(&mut question.seen, now) == now {
                    continue;
                }
                candidates += 1;
                if !question.suits(event, &probe) {
                    continue;
                }
                hits += 1;
                for asked_by in question.askers.as_slice() {
                    match &asked_by.direct {
                        Some(target) => tell(target),
                        None => several.push(asked_by.asker.owner),
                    }
                }
            }
        }
        self.stats.candidates += candidates;
        self.stats.hits += hits;
        for index in several.drain(..) {
            let Some(asker) = askers.get_mut(index) else { continue };
            if std::mem::replace(&mut asker.told, now) != now {
                tell(&asker.target);
            }
        }
        self.scratch.shrink();
    }

    /// Fills `scratch.found` with the questions that are filed under a key of `event`; one may come several times.
    fn find_candidates(&mut self, event: &Event) {
        let filed = &self.filed;
        let wanted = |field| {
            #[cfg(test)]
            if self.blind.is_some_and(|blind| blind(field)) {
                return false;
            }
            filed.has(field)
        };
        let mut keys = SmallVec::<[Hashed<'_>; 8]>::new();
        // Their text is what is needed first.
        touch(event.tags().iter().filter_map(|tag| tag.value.as_bytes().first().copied()));
        Key::of_event(event, wanted, |key| keys.push(filed.hashed(key)));
        // An event that repeats a tag 2,000 times must not walk that tag's list 2,000 times.
        keys.sort_unstable();
        keys.dedup();
        let found = &mut self.scratch.found;
        found.clear();
        filed.look_up(&keys, found);
    }

    /// The index of `filter`, which is filed if nobody asked it before.
    fn question(&mut self, filter: &Filter) -> u32 {
        let Self { questions, filed, distinct, .. } = self;
        let hash = self.distinct_secret.hash_one(meaning(filter));
        let equal =
            |index: &u32| questions.get(*index).is_some_and(|known| meaning(&known.detail.filter) == meaning(filter));
        let hash_of = |index: &u32| questions.get(*index).map_or(0, |known| known.detail.hash);
        match distinct.entry(hash, equal, hash_of) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let filter = Filter { limit: None, ..filter.clone() };
                let field = rarest_field(&filter, &self.frequencies);
                let mut question = Question::new(filter, hash, field);
                let index = questions.vacant();
                let detail = &mut *question.detail;
                let (filter, places) = (&detail.filter, &mut detail.places);
                Key::of_filter(filter, field, |key| {
                    let ordinal = u32::try_from(places.len()).unwrap_or(u32::MAX);
                    places.push(filed.insert(key, Member { owner: index, ordinal }));
                });
                places.shrink_to_fit();
                place.insert(questions.insert(question));
                index
            }
        }
    }

    /// Takes a question out that nobody asks any more.
    fn forget(&mut self, index: u32) {
        let Some(mut question) = self.questions.remove(index) else { return };
        let detail = &mut *question.detail;
        if let Ok(known) = self.distinct.find_entry(detail.hash, |known| *known == index) {
            known.remove();
        }
        let mut ordinal = 0;
        Key::of_filter(&detail.filter, detail.field, |key| {
            let place = detail.places.get(ordinal).copied();
            ordinal += 1;
            let Some(place) = place else { return };
            let Some(moved) = self.filed.remove(key, place) else { return };
            // Whoever has moved into its place learns the new one; that may be this question under another key.
            let owner = self.questions.get_mut(moved.owner).map(|owner| &mut owner.detail.places);
            let places = if moved.owner == index { Some(&mut detail.places) } else { owner };
            if let Some(entry) = places.and_then(|places| places.get_mut(moved.ordinal as usize)) {
                *entry = place;
            }
        });
    }
}

impl Scratch {
    fn shrink(&mut self) {
        for list in [&mut self.found, &mut self.several] {
            if list.capacity() > SCRATCH_KEPT {
                list.shrink_to(SCRATCH_KEPT);
            }
        }
    }
}

/// Everything of a filter that decides what it matches: all but `limit`.
fn meaning(filter: &Filter) -> impl Eq + std::hash::Hash {
    (&filter.ids, &filter.authors, &filter.kinds, &filter.tags, filter.since, filter.until)
}

/// Reads one word of each of several places in memory. The decisions that come later depend on what is there, and a
/// processor that guesses one wrong forgets what it has begun to fetch; here there is nothing to guess.
fn touch<N: Into<u64>>(words: impl Iterator<Item = N>) {
    std::hint::black_box(words.fold(0, |sum, word| sum ^ word.into()));
}
