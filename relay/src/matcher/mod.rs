//! Which subscriptions and cached results an event concerns.
//!
//! Every distinct filter is filed once, under the values of its rarest field, and holds the list of those who asked
//! it. An event looks up its own values and compares itself only with the filters found there: its cost follows what
//! matches, not how many subscribe. What that takes of memory is laid out for the processor's caches: see
//! docs/decisions/0005-matcher-layout.md.

mod block;
mod filing;
mod frequencies;
mod indexed_filter;
mod postings;
mod probe;
mod slab;
mod subscribers;
#[cfg(test)]
mod tests;

use crate::types::{Event, Filter, Registration};
#[cfg(test)]
use filing::Field;
use filing::{IndexKey, rarest_field};
use frequencies::Frequencies;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use indexed_filter::IndexedFilter;
use postings::{HashedIndexKey, Postings};
use slab::Slab;
use smallvec::SmallVec;
use std::cell::OnceCell;
use std::hash::{BuildHasher, RandomState};
use subscribers::Posting;

/// The working memory that is kept from one event to the next, in numbers of 4 bytes a list.
const SCRATCH_KEPT: usize = 1 << 16;

/// How many filters are fetched before the first of them is looked at: more than a processor can fetch at once, and few
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

/// One insertion: who asks one or more filters.
struct Subscriber<T> {
    target: T,
    /// The last event it was told of.
    last_event: u64,
    subscriptions: SmallVec<[SubscriptionFilter; 2]>,
    /// Tells it from those that had its index before it.
    generation: u32,
}

/// That a subscriber asks for a filter.
#[derive(Clone, Copy)]
struct SubscriptionFilter {
    filter: u32,
    /// Where in its list of subscribers.
    place: u32,
}

/// The index. `T` is whom to tell: a subscription, a cache entry. It may be cloned once, so it should be a mere handle; no
/// clone outlives its registration.
///
/// Memory at 1,000,000 distinct filters of one to ten values is about 560 bytes a filter, the filter included.
pub struct Matcher<T> {
    filters: Slab<IndexedFilter<T>>,
    subscribers: Slab<Subscriber<T>>,
    /// The filters by the values they are filed under.
    filed: Postings,
    /// Finds equal filters.
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
            filters: Slab::new(),
            subscribers: Slab::new(),
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
        self.subscribers.len()
    }

    /// True when nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells every target.
    pub fn for_each_target(&self, mut tell: impl FnMut(&T)) {
        self.subscribers.values().for_each(|subscriber| tell(&subscriber.target));
    }

    /// How many different filters are filed; filters that no event can match are not.
    pub fn distinct_filters(&self) -> usize {
        self.filters.len()
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
        let subscriber = self.subscribers.vacant();
        let mut subscriptions = SmallVec::<[SubscriptionFilter; 2]>::new();
        for filter in filters.iter().filter(|filter| !filter.is_impossible()) {
            let index = self.index_filter(filter);
            if let Some(indexed) = self.filters.get_mut(index) {
                let ordinal = u32::try_from(subscriptions.len()).unwrap_or(u32::MAX);
                subscriptions.push(SubscriptionFilter {
                    filter: index,
                    place: indexed.subscribers.push(Posting { owner: subscriber, ordinal }),
                });
            }
        }
        if let [subscription] = *subscriptions {
            let indexed = self.filters.get_mut(subscription.filter);
            if let Some(subscriber_ref) = indexed.and_then(|indexed| indexed.subscribers.get_mut(subscription.place)) {
                subscriber_ref.direct = Some(target.clone());
            }
        }
        self.subscribers.insert(Subscriber { target, last_event: 0, subscriptions, generation });
        Registration(u64::from(generation) << 32 | u64::from(subscriber))
    }

    /// Ends a registration and returns its target, once. Takes time in proportion to the values in its own filters, no
    /// matter how many others share them.
    pub fn remove(&mut self, registration: Registration) -> Option<T> {
        let (generation, index) = ((registration.0 >> 32) as u32, registration.0 as u32);
        self.subscribers.get(index).filter(|subscriber| subscriber.generation == generation)?;
        let Subscriber { target, mut subscriptions, .. } = self.subscribers.remove(index)?;
        let mut ordinal = 0;
        while let Some(subscription) = subscriptions.get(ordinal).copied() {
            ordinal += 1;
            let Some(indexed) = self.filters.get_mut(subscription.filter) else { continue };
            let moved = indexed.subscribers.swap_remove(subscription.place);
            if indexed.subscribers.as_slice().is_empty() {
                self.forget(subscription.filter);
                continue;
            }
            if let Some(moved) = moved {
                // Whoever has moved into its place learns the new one; that may be this subscriber, which asked twice.
                let others = self.subscribers.get_mut(moved.owner).map(|subscriber| &mut subscriber.subscriptions);
                let subscriptions = if moved.owner == index { Some(&mut subscriptions) } else { others };
                if let Some(entry) =
                    subscriptions.and_then(|subscriptions| subscriptions.get_mut(moved.ordinal as usize))
                {
                    entry.place = subscription.place;
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
        let Self { filters, subscribers, scratch: Scratch { found, several }, .. } = self;
        let (probe, mut candidates, mut hits) = (OnceCell::new(), 0, 0);
        several.clear();
        for some in found.chunks(AHEAD) {
            prefetch(some.iter().filter_map(|index| filters.get(*index)).map(|indexed| indexed.seen));
            for index in some {
                let Some(indexed) = filters.get_mut(*index) else { continue };
                if std::mem::replace(&mut indexed.seen, now) == now {
                    continue;
                }
                candidates += 1;
                if !indexed.suits(event, &probe) {
                    continue;
                }
                hits += 1;
                for subscriber_ref in indexed.subscribers.as_slice() {
                    match &subscriber_ref.direct {
                        Some(target) => tell(target),
                        None => several.push(subscriber_ref.subscriber.owner),
                    }
                }
            }
        }
        self.stats.candidates += candidates;
        self.stats.hits += hits;
        for index in several.drain(..) {
            let Some(subscriber) = subscribers.get_mut(index) else { continue };
            if std::mem::replace(&mut subscriber.last_event, now) != now {
                tell(&subscriber.target);
            }
        }
        self.scratch.shrink();
    }

    /// Fills `scratch.found` with the filters that are filed under a key of `event`; one may come several times.
    fn find_candidates(&mut self, event: &Event) {
        let filed = &self.filed;
        let wanted = |field| {
            #[cfg(test)]
            if self.blind.is_some_and(|blind| blind(field)) {
                return false;
            }
            filed.has(field)
        };
        let mut keys = SmallVec::<[HashedIndexKey<'_>; 8]>::new();
        // Their text is what is needed first.
        prefetch(event.tags().iter().filter_map(|tag| tag.value.as_bytes().first().copied()));
        IndexKey::of_event(event, wanted, |key| keys.push(filed.hashed(key)));
        // An event that repeats a tag 2,000 times must not walk that tag's list 2,000 times.
        keys.sort_unstable();
        keys.dedup();
        let found = &mut self.scratch.found;
        found.clear();
        filed.look_up(&keys, found);
    }

    /// The index of `filter`, which is filed if nobody asked it before.
    fn index_filter(&mut self, filter: &Filter) -> u32 {
        let Self { filters, filed, distinct, .. } = self;
        let hash = self.distinct_secret.hash_one(meaning(filter));
        let equal =
            |index: &u32| filters.get(*index).is_some_and(|known| meaning(&known.detail.filter) == meaning(filter));
        let hash_of = |index: &u32| filters.get(*index).map_or(0, |known| known.detail.hash);
        match distinct.entry(hash, equal, hash_of) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let filter = Filter { limit: None, ..filter.clone() };
                let field = rarest_field(&filter, &self.frequencies);
                let mut indexed = IndexedFilter::new(filter, hash, field);
                let index = filters.vacant();
                let detail = &mut *indexed.detail;
                let (filter, places) = (&detail.filter, &mut detail.places);
                IndexKey::of_filter(filter, field, |key| {
                    let ordinal = u32::try_from(places.len()).unwrap_or(u32::MAX);
                    places.push(filed.insert(key, Posting { owner: index, ordinal }));
                });
                places.shrink_to_fit();
                place.insert(filters.insert(indexed));
                index
            }
        }
    }

    /// Takes out a filter that nobody asks for any more.
    fn forget(&mut self, index: u32) {
        let Some(mut indexed) = self.filters.remove(index) else { return };
        let detail = &mut *indexed.detail;
        if let Ok(known) = self.distinct.find_entry(detail.hash, |known| *known == index) {
            known.remove();
        }
        let mut ordinal = 0;
        IndexKey::of_filter(&detail.filter, detail.field, |key| {
            let place = detail.places.get(ordinal).copied();
            ordinal += 1;
            let Some(place) = place else { return };
            let Some(moved) = self.filed.remove(key, place) else { return };
            // Whoever has moved into its place learns the new one; that may be this filter under another key.
            let owner = self.filters.get_mut(moved.owner).map(|owner| &mut owner.detail.places);
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
fn prefetch<N: Into<u64>>(words: impl Iterator<Item = N>) {
    std::hint::black_box(words.fold(0, |sum, word| sum ^ word.into()));
}
