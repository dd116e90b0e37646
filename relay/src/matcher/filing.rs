//! The keys that a filter is filed under, and the keys that an event looks up.

use super::frequencies::Frequencies;
use crate::types::{Event, EventId, Filter, Kind, PublicKey, TagFilter};
use std::hash::{BuildHasher, Hasher, RandomState};

/// The cost of one posting, in memory and on insertion, in the unit of the other costs: candidates an event.
const POSTING: f64 = 1e-6;

/// A filter with more (author, kind) pairs than this is not filed under pairs.
const MAX_PAIRS: usize = 256;

/// The longest tag value, other than hex, that is stored in the space of a 32-byte hash.
pub(super) const SHORT: usize = 31;

/// The field that a filter is filed under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) enum Field {
    Id,
    /// A tag of this letter.
    Tag(u8),
    /// Author and kind together.
    Pair,
    Author,
    Kind,
    /// No field: every event is a candidate.
    All,
}

/// The field that makes `filter` a candidate least often.
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

impl Field {
    /// The number of field types: the tags of all letters are one type.
    pub(super) const TYPES: usize = 6;

    /// The number of the field's type, from 0.
    pub(super) const fn type_number(self) -> usize {
        match self {
            Self::Id => 0,
            Self::Tag(_) => 1,
            Self::Pair => 2,
            Self::Author => 3,
            Self::Kind => 4,
            Self::All => 5,
        }
    }
}

/// A key of the index: a field and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IndexKey<'a> {
    pub(super) field: Field,
    kind: u16,
    pub(super) part: Part<'a>,
}

/// The value of a key, without the kind of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part<'a> {
    /// An id, a public key, or a tag value that is one of these in hex; zeros where there is none.
    Fixed([u8; 32]),
    /// Another tag value of at most [`SHORT`] bytes: its length, and its bytes followed by zeros.
    Short(u8, [u8; SHORT]),
    /// A longer tag value.
    Long(&'a str),
}

impl<'a> Part<'a> {
    fn text(value: &'a str) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..value.len()) {
            Some(room) => {
                room.copy_from_slice(value.as_bytes());
                Self::Short(value.len() as u8, bytes)
            }
            None => Self::Long(value),
        }
    }

    /// The hash of a key, which consists of this part and of its head. It covers everything in which keys differ, also
    /// the type of the part and the length of a text. Otherwise a client could make values that collide under every
    /// secret.
    pub(super) fn hash(&self, head: u32, secret: &RandomState) -> u64 {
        let mut hasher = secret.build_hasher();
        let sort = match self {
            Self::Fixed(bytes) => {
                hasher.write(bytes);
                u8::MAX
            }
            Self::Short(length, bytes) => {
                hasher.write(bytes);
                *length
            }
            Self::Long(text) => {
                hasher.write(text.as_bytes());
                u8::MAX - 1
            }
        };

        hasher.write_u32(head);
        hasher.write_u8(sort);
        hasher.finish()
    }
}

impl<'a> IndexKey<'a> {
    const fn fixed(field: Field, kind: u16, bytes: [u8; 32]) -> Self {
        Self { field, kind, part: Part::Fixed(bytes) }
    }

    const fn id(id: EventId) -> Self {
        Self::fixed(Field::Id, 0, *id.as_bytes())
    }

    const fn author(author: PublicKey) -> Self {
        Self::fixed(Field::Author, 0, *author.as_bytes())
    }

    const fn pair(author: PublicKey, kind: Kind) -> Self {
        Self::fixed(Field::Pair, kind.0, *author.as_bytes())
    }

    const fn kind(kind: Kind) -> Self {
        Self::fixed(Field::Kind, kind.0, [0; 32])
    }

    fn tag(letter: u8, value: &'a str) -> Self {
        let hex = if value.len() == 64 { EventId::from_hex(value.as_bytes()).ok() } else { None };
        let part = hex.map_or_else(|| Part::text(value), |id| Part::Fixed(*id.as_bytes()));
        Self { field: Field::Tag(letter), kind: 0, part }
    }

    /// The key without `part`, as one number.
    pub(super) fn head(&self) -> u32 {
        let letter = if let Field::Tag(letter) = self.field { letter } else { 0 };
        u32::from_be_bytes([self.field.type_number() as u8, letter, (self.kind >> 8) as u8, self.kind as u8])
    }

    /// Calls `file` with each key that `filter` has under `field`, always in the same order. A key may come twice.
    pub(super) fn of_filter(filter: &'a Filter, field: Field, mut file: impl FnMut(Self)) {
        let authors = filter.authors.as_deref().unwrap_or_default();
        let kinds = filter.kinds.as_deref().unwrap_or_default();
        match field {
            Field::Id => filter.ids.as_deref().unwrap_or_default().iter().for_each(|id| file(Self::id(*id))),
            Field::Tag(letter) => {
                // Of several conditions on one letter (NIP-91), the first of those with the fewest values.
                let conditions = filter.tags.iter().filter(|condition| condition.letter == letter);
                let one = conditions.min_by_key(|condition| condition.values.len());
                one.into_iter().flat_map(|one| &one.values).for_each(|value| file(Self::tag(letter, value)));
            }
            Field::Pair => {
                let pairs = authors.iter().flat_map(|author| kinds.iter().map(|kind| Self::pair(*author, *kind)));
                pairs.for_each(file);
            }
            Field::Author => authors.iter().for_each(|author| file(Self::author(*author))),
            Field::Kind => kinds.iter().for_each(|kind| file(Self::kind(*kind))),
            Field::All => file(Self::fixed(Field::All, 0, [0; 32])),
        }
    }

    /// Calls `look` with each key that `event` has under a `wanted` field. A key may come twice.
    pub(super) fn of_event(event: &'a Event, wanted: impl Fn(Field) -> bool, mut look: impl FnMut(Self)) {
        let mut offer = |field: Field, key: &dyn Fn() -> Self| {
            if wanted(field) {
                look(key());
            }
        };
        offer(Field::Id, &|| Self::id(event.id()));
        offer(Field::Author, &|| Self::author(event.pubkey()));
        offer(Field::Pair, &|| Self::pair(event.pubkey(), event.kind()));
        offer(Field::Kind, &|| Self::kind(event.kind()));
        offer(Field::All, &|| Self::fixed(Field::All, 0, [0; 32]));
        for tag in event.tags() {
            offer(Field::Tag(tag.letter), &|| Self::tag(tag.letter, &tag.value));
        }
    }
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
