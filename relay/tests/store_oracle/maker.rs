//! Events and filters out of few parts.

use super::START;
use crate::store_kit::{self, a, all_of, author, e, sorted, tag, tag_filter};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use relay::types::{Access, Event, EventId, Filter, Kind, PrivateKinds, PublicKey, TagFilter, Timestamp};
use std::sync::Arc;

const KINDS: [u16; 12] = [0, 1, 1, 1, 3, 4, 5, 5, 7, 1059, 30000, 30001];
const VALUES: [&str; 6] = ["", "x", "y", "a\"b", "\\", "[\"t\",\"x\""];

/// Makes events and filters out of few parts.
pub(crate) struct Maker {
    pub(crate) random: StdRng,
    pub(crate) made: Vec<Arc<Event>>,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), made: Vec::new() }
    }

    pub(crate) fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list.choose(&mut self.random).unwrap().clone()
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    pub(crate) fn author(&mut self) -> u8 {
        self.random.random_range(0..4)
    }

    pub(crate) fn known(&mut self) -> Option<Arc<Event>> {
        self.made.choose(&mut self.random).cloned()
    }

    pub(crate) fn time(&mut self) -> Timestamp {
        match self.random.random_range(0..60) {
            0 => 0,
            1 => 1 << 34,
            2 => (1 << 34) + self.random.random_range(0..3),
            _ => START + self.random.random_range(0..12),
        }
    }

    pub(crate) fn event(&mut self) -> Arc<Event> {
        if self.chance(0.1)
            && let Some(again) = self.known()
        {
            return again;
        }

        let (n, kind, at) = (self.author(), self.pick(&KINDS), self.time());
        let mut tags = Vec::new();
        for _ in 0..self.random.random_range(0..4) {
            let made = self.known();
            tags.push(match (self.random.random_range(0..8), made) {
                (0 | 1, Some(made)) => e(&made),
                (2, _) => tag("p", &author(self.author()).to_hex()),
                (3, _) => a(self.author(), self.pick(&[0, 3, 30000, 30001, 1]), self.pick(&["", "x", "y"])),
                (4 | 5, _) => tag("t", self.pick(&VALUES)),
                (6, _) => tag("d", self.pick(&VALUES)),
                _ => tag("expiration", &(START + self.random.random_range(0..20)).to_string()),
            });
        }

        if kind == 1059 {
            tags.push(tag("p", &author(self.author()).to_hex()));
        }
        let content = self.random.random_range(0..6).to_string().repeat(self.pick(&[1, 1, 1, 30, 6_000]));
        let event = store_kit::event(n, kind, at, &tags, &content);
        self.made.push(event.clone());
        event
    }

    pub(crate) fn filter(&mut self) -> Filter {
        let mut filter = Filter::default();
        if self.chance(0.1) {
            let ids: Vec<EventId> =
                (0..self.random.random_range(1..8)).filter_map(|_| self.known().map(|event| event.id())).collect();
            filter.ids = sorted(&ids).filter(|ids| !ids.is_empty());
        }

        if self.chance(0.35) {
            let count = self.random.random_range(1..4);
            filter.authors = sorted(&(0..count).map(|_| author(self.author())).collect::<Vec<PublicKey>>());
        }
        if self.chance(0.4) {
            let count = self.random.random_range(1..4);
            filter.kinds = sorted(&(0..count).map(|_| Kind(self.pick(&KINDS))).collect::<Vec<_>>());
        }

        let mut tags: Vec<TagFilter> = Vec::new();
        for letter in [b'd', b'e', b'p', b't'] {
            if self.chance(0.12) {
                let count = self.random.random_range(1..4);
                let values: Vec<String> = (0..count)
                    .map(|_| match letter {
                        b'e' => self.known().map_or_else(String::new, |event| event.id().to_hex()),
                        b'p' => author(self.author()).to_hex(),
                        _ => self.pick(&VALUES).to_owned(),
                    })
                    .collect();
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                match self.random.random_range(0..4) {
                    // All of them must be there; or the first, and one of the others.
                    0 => tags.extend(all_of(letter, &values)),
                    1 if values.len() == 3 && !values[1..].contains(&values[0]) => {
                        tags.extend([tag_filter(letter, &values[..1]), tag_filter(letter, &values[1..])]);
                    }
                    _ => tags.push(tag_filter(letter, &values)),
                }
            }
        }
        tags.sort_by(|a, b| (a.letter, &a.values).cmp(&(b.letter, &b.values)));
        filter.tags = tags.into();
        if self.chance(0.2) {
            filter.since = Some(self.time());
        }
        if self.chance(0.2) {
            filter.until = Some(self.time());
        }
        filter
    }

    pub(crate) fn access(&mut self) -> Option<Access> {
        let keys: Vec<u8> = match self.random.random_range(0..5) {
            0 => return None,
            1 | 2 => Vec::new(),
            3 => vec![self.author()],
            _ => vec![self.author(), self.author()],
        };
        let private_kinds =
            if self.chance(0.5) { PrivateKinds::default() } else { PrivateKinds::new(vec![Kind(4), Kind(1059)]) };
        // Kinds of which there are replaced and deleted versions, and events that name people.
        let author_only = self.pick(&[&[][..], &[Kind(7), Kind(30_001)], &[Kind(4)]]).to_vec();
        let private_kinds = private_kinds.with_author_only(author_only);
        Some(Access { private_kinds, ..store_kit::reader(&keys) })
    }
}
