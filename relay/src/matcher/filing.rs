//! Under which keys a filter is filed, and under which keys an event looks.
//!
//! A key is a 32-bit keyed hash of a field and a value. Two values that share a key only cost a needless candidate:
//! every candidate is compared with the event itself. The hash is SipHash under a secret of the process, so a client
//! can not choose values that share a key (hash flooding).

use super::frequencies::Frequencies;
use crate::types::{Event, Filter, Kind, PublicKey, TagFilter};
use std::hash::{BuildHasher, RandomState};

/// What one posting costs in memory and on insertion, in candidates per event.
const POSTING: f64 = 1e-6;

/// A filter with more (author, kind) pairs than this is not filed under pairs.
const MAX_PAIRS: usize = 256;

/// The field that a filter is filed under.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Field {
    Id,
    /// A tag of this letter.
    Tag(u8),
    /// Author and kind at once.
    Pair,
    Author,
    Kind,
    /// None: every event is a candidate.
    All,
}

/// Picks the field that will make `filter` a candidate least often.
pub(super) fn rarest_field(filter: &Filter, seen: &Frequencies) -> Field {
    let mut best = (1.0 + POSTING, Field::All);
    let mut offer = |field: Field, postings: usize, share_of_each: f64| {
        let cost = postings as f64 * (share_of_each + POSTING);
        if cost < best.0 {
            best = (cost, field);
        }
    };
    let kinds = filter.kinds.as_deref();
    let share_of_kinds = kinds.map(|kinds| kinds.iter().map(|kind| seen.kind(*kind)).sum::<f64>());
    if let (Some(kinds), Some(share)) = (kinds, share_of_kinds) {
        offer(Field::Kind, kinds.len(), share / kinds.len() as f64);
    }
    if let Some(authors) = filter.authors.as_deref() {
        offer(Field::Author, authors.len(), Frequencies::AUTHOR);
        if let (Some(kinds), Some(share)) = (kinds, share_of_kinds) {
            let pairs = authors.len().saturating_mul(kinds.len());
            if pairs <= MAX_PAIRS {
                offer(Field::Pair, pairs, Frequencies::AUTHOR * share / kinds.len() as f64);
            }
        }
    }
    for TagFilter { letter, values } in &filter.tags {
        offer(Field::Tag(*letter), values.len(), seen.tag_value(*letter));
    }
    if let Some(ids) = filter.ids.as_deref() {
        offer(Field::Id, ids.len(), Frequencies::ID);
    }
    best.1
}

/// Turns values into keys.
pub(super) struct Keys {
    secret: RandomState,
    /// Under which everything is filed that has no value worth hashing.
    base: u64,
}

impl Keys {
    /// Draws a secret.
    pub(super) fn new() -> Self {
        let secret = RandomState::new();
        let base = secret.hash_one(0u8);
        Self { secret, base }
    }

    fn id(&self, id: &[u8; 32]) -> u32 {
        upper_half(self.secret.hash_one((1u8, id)))
    }

    fn author(&self, author: PublicKey) -> u64 {
        self.secret.hash_one((2u8, author.as_bytes()))
    }

    fn tag(&self, letter: u8, value: &str) -> u32 {
        upper_half(self.secret.hash_one((letter, value)))
    }

    fn kind(&self, kind: Kind) -> u32 {
        pair(self.base, kind)
    }

    fn all(&self) -> u32 {
        upper_half(self.base)
    }

    /// Calls `file` with each key that `filter` has under `field`. A key may come twice.
    pub(super) fn of_filter(&self, filter: &Filter, field: Field, mut file: impl FnMut(u32)) {
        let authors = filter.authors.as_deref().unwrap_or_default();
        let kinds = filter.kinds.as_deref().unwrap_or_default();
        match field {
            Field::Id => {
                filter.ids.as_deref().unwrap_or_default().iter().for_each(|id| file(self.id(id.as_bytes())));
            }
            Field::Tag(letter) => {
                let conditions = filter.tags.iter().filter(|condition| condition.letter == letter);
                conditions.flat_map(|condition| &condition.values).for_each(|value| file(self.tag(letter, value)));
            }
            Field::Pair => {
                for author in authors.iter().map(|author| self.author(*author)) {
                    kinds.iter().for_each(|kind| file(pair(author, *kind)));
                }
            }
            Field::Author => authors.iter().for_each(|author| file(upper_half(self.author(*author)))),
            Field::Kind => kinds.iter().for_each(|kind| file(self.kind(*kind))),
            Field::All => file(self.all()),
        }
    }

    /// Calls `look` with each key that `event` has, and the field it belongs to. A key may come twice.
    pub(super) fn of_event(&self, event: &Event, mut look: impl FnMut(Field, u32)) {
        let author = self.author(event.pubkey());
        look(Field::Id, self.id(event.id().as_bytes()));
        look(Field::Author, upper_half(author));
        look(Field::Pair, pair(author, event.kind()));
        look(Field::Kind, self.kind(event.kind()));
        look(Field::All, self.all());
        for tag in event.tags() {
            look(Field::Tag(tag.letter), self.tag(tag.letter, &tag.value));
        }
    }
}

const fn upper_half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// What the kind is paired with is a secret hash already: it is enough to spread the kinds (by 2^64 divided by the
/// golden ratio).
const fn pair(author: u64, kind: Kind) -> u32 {
    upper_half(author.wrapping_add((kind.0 as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::EventId;

    fn authors(count: u8) -> Option<Box<[PublicKey]>> {
        Some((0..count).map(|n| PublicKey::from_bytes([n; 32])).collect())
    }

    fn kinds(kinds: &[u16]) -> Option<Box<[Kind]>> {
        Some(kinds.iter().map(|kind| Kind(*kind)).collect())
    }

    fn tag(letter: u8, value: &str) -> Box<[TagFilter]> {
        Box::new([TagFilter { letter, values: Box::new([value.into()]) }])
    }

    fn field(filter: &Filter) -> Field {
        rarest_field(filter, &Frequencies::new())
    }

    #[test]
    fn a_filter_is_filed_under_its_rarest_field() {
        assert_eq!(field(&Filter::default()), Field::All);
        assert_eq!(field(&Filter { kinds: kinds(&[1]), ..Filter::default() }), Field::Kind);
        assert_eq!(field(&Filter { authors: authors(3), ..Filter::default() }), Field::Author);
        assert_eq!(field(&Filter { authors: authors(3), kinds: kinds(&[1]), ..Filter::default() }), Field::Pair);
        let mention = Filter { tags: tag(b'p', "ab"), kinds: kinds(&[1, 6, 7]), ..Filter::default() };
        assert_eq!(field(&mention), Field::Tag(b'p'));
        let id = Some(Box::from([EventId::from_bytes([7; 32])]));
        assert_eq!(field(&Filter { ids: id, authors: authors(1), kinds: kinds(&[1]), ..Filter::default() }), Field::Id);
    }

    #[test]
    fn a_rare_kind_beats_many_authors_and_a_common_one_does_not() {
        let feed = |kind| Filter { authors: authors(200), kinds: kinds(&[kind, kind + 1]), ..Filter::default() };
        assert_eq!(field(&feed(31_337)), Field::Kind);
        assert_eq!(field(&feed(6)), Field::Author);
    }

    #[test]
    fn a_tag_value_as_common_as_its_kind_loses_to_a_rare_kind() {
        let language = |kind| Filter { tags: tag(b'l', "en"), kinds: kinds(&[kind]), ..Filter::default() };
        assert_eq!(field(&language(31_337)), Field::Kind);
        assert_eq!(field(&language(1)), Field::Tag(b'l'));
    }
}
