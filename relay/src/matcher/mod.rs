//! Which subscriptions and cached results an event concerns.
//!
//! Every distinct filter is filed once, under the values of its rarest field, and holds the list of those who asked
//! it. An event looks up its own values and compares itself only with the filters found there: its cost follows what
//! matches, not how many subscribe.

mod filing;
mod frequencies;
mod links;
mod probe;
mod slab;
#[cfg(test)]
mod tests;

use crate::types::{Event, Filter, Registration};
#[cfg(test)]
use filing::Field;
use filing::{Keys, rarest_field};
use frequencies::Frequencies;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use links::Links;
use probe::Probe;
use slab::{NONE, Slab};
use std::hash::{BuildHasher, RandomState};

/// The working memory that is kept from one event to the next, in numbers of 4 bytes a list.
const SCRATCH_KEPT: usize = 1 << 16;

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

/// A distinct filter, its `limit` aside. Aligned so that it lies in two neighbouring cache lines, which the processor
/// fetches together, and not in three.
#[repr(align(128))]
struct Question {
    filter: Filter,
    hash: u64,
    /// The last event it was compared with.
    seen: u64,
    first_posting: u32,
    first_asker: u32,
}

/// One insertion: who asks one or more questions.
struct Asker<T> {
    target: T,
    /// The last event it was told of.
    told: u64,
    first_question: u32,
    /// Tells it from those that had its index before it.
    generation: u32,
}

/// The index. `T` is whom to tell: a subscription, a cache entry.
///
/// Memory at 1,000,000 distinct filters of one to ten values is about 420 bytes a filter, the filter included.
pub struct Matcher<T> {
    questions: Slab<Question>,
    askers: Slab<Asker<T>>,
    /// Links from a question to the keys it is filed under.
    postings: Links,
    /// Links from an asker to its questions.
    asking: Links,
    /// A key and the head of its posting list.
    filed: HashTable<(u32, u32)>,
    /// Finds equal questions.
    distinct: HashTable<u32>,
    distinct_secret: RandomState,
    keys: Keys,
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
    keys: Vec<u32>,
    front: Vec<u32>,
    found: Vec<u32>,
}

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Matcher<T> {
    /// An empty matcher with hash secrets of its own.
    pub fn new() -> Self {
        Self {
            questions: Slab::new(),
            askers: Slab::new(),
            postings: Links::new(),
            asking: Links::new(),
            filed: HashTable::new(),
            distinct: HashTable::new(),
            distinct_secret: RandomState::new(),
            keys: Keys::new(),
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
        let asker = self.askers.insert(Asker { target, told: 0, first_question: NONE, generation });
        let mut first_question = NONE;
        for filter in filters.iter().filter(|filter| !filter.is_impossible()) {
            let index = self.question(filter);
            if let Some(question) = self.questions.get_mut(index) {
                question.first_asker = self.asking.push(index, question.first_asker, asker, first_question);
                first_question = question.first_asker;
            }
        }
        if let Some(asker) = self.askers.get_mut(asker) {
            asker.first_question = first_question;
        }
        Registration(u64::from(generation) << 32 | u64::from(asker))
    }

    /// Ends a registration and returns its target, once. Takes time in proportion to the values in its own filters, no
    /// matter how many others share them.
    pub fn remove(&mut self, registration: Registration) -> Option<T> {
        let (generation, index) = ((registration.0 >> 32) as u32, registration.0 as u32);
        self.askers.get(index).filter(|asker| asker.generation == generation)?;
        let asker = self.askers.remove(index)?;
        let mut link = asker.first_question;
        while let Some(left) = self.asking.remove(link) {
            link = left.sibling;
            if let Some(head) = left.new_head
                && let Some(question) = self.questions.get_mut(left.list)
            {
                question.first_asker = head;
                if head == NONE {
                    self.forget(left.list);
                }
            }
        }
        Some(asker.target)
    }

    /// Calls `tell` once for each target of which at least one filter matches `event`.
    pub fn for_each_match(&mut self, event: &Event, mut tell: impl FnMut(&T)) {
        self.stats.events += 1;
        let now = self.stats.events;
        self.frequencies.observe(event);
        self.find_candidates(event);

        // Each stage is a loop of its own over independent memory, so that the processor waits for many cache
        // misses at once rather than for one after the other.
        let Scratch { front, found, .. } = &mut self.scratch;
        let probe = Probe::new(event);
        front.clear();
        found.retain(|index| {
            self.questions.get_mut(*index).is_some_and(|question| std::mem::replace(&mut question.seen, now) != now)
        });
        self.stats.candidates += found.len() as u64;
        let questions = &self.questions;
        let mut keep = |suits: &dyn Fn(&Filter) -> bool| {
            found.retain(|index| questions.get(*index).is_some_and(|question| suits(&question.filter)));
        };
        keep(&|filter| filter.suits_kind_and_time(event));
        keep(&|filter| filter.suits_author_and_id(event));
        keep(&|filter| probe.suits_tags(filter));
        self.stats.hits += found.len() as u64;
        front.extend(found.drain(..).filter_map(|index| questions.get(index)).map(|question| question.first_asker));
        self.asking.drain_lists(front, found);
        found.retain(|index| {
            self.askers.get_mut(*index).is_some_and(|asker| std::mem::replace(&mut asker.told, now) != now)
        });
        found.drain(..).filter_map(|index| self.askers.get(index)).for_each(|asker| tell(&asker.target));
        self.scratch.shrink();
    }

    /// Fills `scratch.found` with the questions that are filed under a key of `event`; one may come several times.
    fn find_candidates(&mut self, event: &Event) {
        let Scratch { keys, front, found } = &mut self.scratch;
        keys.clear();
        self.keys.of_event(event, |field, key| {
            #[cfg(test)]
            if self.blind.is_some_and(|blind| blind(field)) {
                return;
            }
            let _ = field;
            keys.push(key);
        });
        // An event that repeats a tag 2,000 times must not walk that tag's list 2,000 times.
        keys.sort_unstable();
        keys.dedup();
        front.clear();
        let heads = keys.iter().filter_map(|key| self.filed.find(spread(*key), |(filed, _)| filed == key));
        front.extend(heads.map(|(_, head)| *head));
        found.clear();
        self.postings.drain_lists(front, found);
    }

    /// The index of `filter`, which is filed if nobody asked it before.
    fn question(&mut self, filter: &Filter) -> u32 {
        let Self { questions, postings, filed, distinct, keys, .. } = self;
        let hash = self.distinct_secret.hash_one(meaning(filter));
        let equal = |index: &u32| questions.get(*index).is_some_and(|known| meaning(&known.filter) == meaning(filter));
        let hash_of = |index: &u32| questions.get(*index).map_or(0, |known| known.hash);
        match distinct.entry(hash, equal, hash_of) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let filter = Filter { limit: None, ..filter.clone() };
                let field = rarest_field(&filter, &self.frequencies);
                let question = Question { filter, hash, seen: 0, first_posting: NONE, first_asker: NONE };
                let index = questions.insert(question);
                place.insert(index);
                if let Some(question) = questions.get_mut(index) {
                    let mut chain = NONE;
                    keys.of_filter(&question.filter, field, |key| {
                        let list = filed.entry(spread(key), |(filed, _)| *filed == key, |(filed, _)| spread(*filed));
                        let mut list = list.or_insert((key, NONE));
                        let (_, head) = list.get_mut();
                        *head = postings.push(key, *head, index, chain);
                        chain = *head;
                    });
                    question.first_posting = chain;
                }
                index
            }
        }
    }

    /// Takes a question out that nobody asks any more.
    fn forget(&mut self, index: u32) {
        let Some(question) = self.questions.remove(index) else { return };
        if let Ok(known) = self.distinct.find_entry(question.hash, |known| *known == index) {
            known.remove();
        }
        let mut link = question.first_posting;
        while let Some(left) = self.postings.remove(link) {
            link = left.sibling;
            if let Some(head) = left.new_head
                && let Ok(mut list) = self.filed.find_entry(spread(left.list), |(key, _)| *key == left.list)
            {
                if head == NONE {
                    list.remove();
                } else {
                    list.get_mut().1 = head;
                }
            }
        }
    }
}

impl Scratch {
    fn shrink(&mut self) {
        for list in [&mut self.keys, &mut self.front, &mut self.found] {
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

/// A hash table wants 64 well-mixed bits; a key's 32 are random already, but only at one end after widening.
const fn spread(key: u32) -> u64 {
    (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
