//! The matcher: an inverted index that names the subscriptions and cached answers that an event concerns.
//!
//! Every distinct filter is in the index once, under the values of its rarest field, with the list of its subscribers.
//! The matcher looks up an event's values and compares the event only with the filters found there: the cost grows with
//! the number of matches, not of subscriptions. The memory is laid out for the processor's caches: see
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

/// The capacity that a scratch list keeps from one event to the next, in elements of 4 bytes.
const SCRATCH_KEPT: usize = 1 << 16;

/// Filters that are prefetched before the first of them is compared: more than a processor can fetch at once, and few
/// enough to stay in its nearest cache.
const AHEAD: usize = 64;

/// The work that the matcher has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MatcherStats {
    /// The events.
    pub events: u64,
    /// Distinct filters that were compared with an event.
    pub candidates: u64,
    /// Comparisons that matched.
    pub hits: u64,
}

/// One registration: a target and the filters that it subscribes to.
struct Subscriber<T> {
    target: T,
    /// The number of the last event that it was called for.
    last_event: u64,
    subscriptions: SmallVec<[SubscriptionFilter; 2]>,
    /// Distinguishes it from earlier subscribers with the same index.
    generation: u32,
}

/// One filter of a subscriber.
#[derive(Clone, Copy)]
struct SubscriptionFilter {
    filter: u32,
    /// The subscriber's place in the filter's list.
    place: u32,
}

/// The index. `T` is a target to call: a subscription, a cache entry. The matcher may clone it once, so it should be
/// cheap to clone, like an `Arc`; no clone outlives the registration.
///
/// Memory at 1,000,000 distinct filters of one to ten values is about 560 bytes a filter, the filter included.
pub struct Matcher<T> {
    filters: Slab<IndexedFilter<T>>,
    subscribers: Slab<Subscriber<T>>,
    /// The posting lists: the filters by their values.
    filed: Postings,
    /// Finds the indexed filter that equals a given one.
    distinct: HashTable<u32>,
    distinct_secret: RandomState,
    frequencies: Frequencies,
    stats: MatcherStats,
    insertions: u32,
    scratch: Scratch,
    #[cfg(test)]
    blind: Option<fn(Field) -> bool>,
}

/// Lists that are filled for one event, and reused for the next.
#[derive(Default)]
struct Scratch {
    /// Filters that may match.
    found: Vec<u32>,
    /// The subscribers with several filters, once for each filter that matches.
    several: Vec<u32>,
}

impl<T: Clone> Default for Matcher<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> Matcher<T> {
    /// An empty matcher, with hash secrets of its own.
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

    /// The number of registered targets.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// True when nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `call` once for each target.
    pub fn for_each_target(&self, mut call: impl FnMut(&T)) {
        self.subscribers.values().for_each(|subscriber| call(&subscriber.target));
    }

    /// The number of distinct filters; filters that no event can match are not counted.
    pub fn distinct_filters(&self) -> usize {
        self.filters.len()
    }

    /// The work done so far.
    pub fn stats(&self) -> MatcherStats {
        self.stats
    }

    /// Registers `target` for every event that at least one of `filters` matches. The time is proportional to the
    /// number of values in the filters.
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

        // A subscriber of one filter is called from that filter's list, without reading the subscriber.
        if let [subscription] = *subscriptions {
            let indexed = self.filters.get_mut(subscription.filter);
            if let Some(subscriber_ref) = indexed.and_then(|indexed| indexed.subscribers.get_mut(subscription.place)) {
                subscriber_ref.direct = Some(target.clone());
            }
        }

        self.subscribers.insert(Subscriber { target, last_event: 0, subscriptions, generation });
        Registration(u64::from(generation) << 32 | u64::from(subscriber))
    }

    /// Ends a registration and returns its target, once. The time is proportional to the number of values in its own
    /// filters, however many others share them.
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
                // The subscriber that `swap_remove` has moved must learn its new place. It may be this one, which
                // subscribed to the filter twice.
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

    /// Calls `call` once for each target of which at least one filter matches `event`.
    pub fn for_each_match(&mut self, event: &Event, mut call: impl FnMut(&T)) {
        self.stats.events += 1;
        let now = self.stats.events;
        self.frequencies.observe(event);
        self.find_candidates(event);

        // Each stage is a loop of its own over independent memory: the processor then waits for many cache misses at
        // once, not for one after the other.
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
                        Some(target) => call(target),
                        None => several.push(subscriber_ref.subscriber.owner),
                    }
                }
            }
        }

        // A subscriber of several filters is called once, whichever of them match.
        self.stats.candidates += candidates;
        self.stats.hits += hits;
        for index in several.drain(..) {
            let Some(subscriber) = subscribers.get_mut(index) else { continue };
            if std::mem::replace(&mut subscriber.last_event, now) != now {
                call(&subscriber.target);
            }
        }
        self.scratch.shrink();
    }

    /// Fills `scratch.found` with the filters that are filed under a key of `event`. A filter may come several times.
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

        // The lookups read the tags' text first.
        prefetch(event.tags().iter().filter_map(|tag| tag.value.as_bytes().first().copied()));
        IndexKey::of_event(event, wanted, |key| keys.push(filed.hashed(key)));
        // An event that repeats a tag 2,000 times must not walk that tag's list 2,000 times.
        keys.sort_unstable();
        keys.dedup();

        let found = &mut self.scratch.found;
        found.clear();
        filed.look_up(&keys, found);
    }

    /// The index of `filter`; files it where it is new.
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

    /// Removes a filter without subscribers.
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
            // The filter whose posting `remove` has moved must learn its new place. It may be this filter, under
            // another key.
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

/// All that decides what a filter matches: everything but `limit`.
fn meaning(filter: &Filter) -> impl Eq + std::hash::Hash {
    (&filter.ids, &filter.authors, &filter.kinds, &filter.tags, filter.since, filter.until)
}

/// Prefetches: reads one word of each of several cache lines. The later comparisons branch on what is there, and a
/// mispredicted branch discards the loads that were begun after it; here there is no branch to mispredict.
fn prefetch<N: Into<u64>>(words: impl Iterator<Item = N>) {
    std::hint::black_box(words.fold(0, |sum, word| sum ^ word.into()));
}
