//! A filter in canonical form: equal questions are equal values.

#[cfg(test)]
mod and_tests;
mod cost;
mod parse;
mod shape;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use parse::FilterSeed;

use super::{Event, EventId, Kind, PublicKey, Timestamp};

/// What a REQ or COUNT asks for (NIP-01). All conditions hold at once. Every list that was read is sorted, free of
/// doubles and non-empty, so `==` and `Hash` mean "the same question"; a filter that no event can match is
/// [`Filter::nothing`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    /// The event is one of these.
    pub ids: Option<Box<[EventId]>>,
    /// Its author is one of these.
    pub authors: Option<Box<[PublicKey]>>,
    /// Its kind is one of these.
    pub kinds: Option<Box<[Kind]>>,
    /// For each entry, at least one tag of that letter has one of the values; sorted by letter and values. A letter has
    /// several entries where all of several values must be there.
    pub tags: Box<[TagFilter]>,
    /// `created_at` is this or later.
    pub since: Option<Timestamp>,
    /// `created_at` is this or earlier.
    pub until: Option<Timestamp>,
    /// At most this many stored events; live ones are not counted.
    pub limit: Option<u32>,
}

/// One `#x` condition of a [`Filter`], or one value of an `&x` (NIP-91): `&t: [a, b]` is `#t: [a]` and `#t: [b]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TagFilter {
    /// The tag's name: one letter, case counts.
    pub letter: u8,
    /// The values, sorted; any of them will do.
    pub values: Box<[Box<str>]>,
}

/// Why a text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not what NIP-01 asks for; says which key and what is expected, for a person, in at most a few hundred bytes.
    #[error("{0}")]
    Invalid(String),
    /// A key that this relay does not know: ignoring it would widen the result.
    #[error("{0}")]
    Unsupported(String),
}

impl Filter {
    /// Reads one JSON object strictly (NIP-01): `ids`, `authors`, `#e` and `#p` hold exact lowercase hex, numbers are
    /// integers and not negative, no key is unknown or doubled. Takes `&x` (NIP-91), which a client may send only where
    /// a setting says so. What has a meaning is taken, however odd: an empty list is a condition that never holds, as
    /// is a kind that no event can have; a greater `limit` than fits counts as the greatest that does.
    pub fn parse(json: &str) -> Result<Self, FilterError> {
        FilterSeed::read(json, usize::MAX, true)
    }

    /// The filter as one JSON object that parses to an equal filter.
    pub fn to_json(&self) -> String {
        write::object(self)
    }

    /// True when `event` meets every condition. `limit` plays no part. Expiry and access are the caller's business.
    pub fn matches(&self, event: &Event) -> bool {
        self.suits_kind_and_time(event)
            && self.suits_author_and_id(event)
            && self.tags.iter().all(|condition| {
                event
                    .tag_values(condition.letter)
                    .any(|value| condition.values.binary_search_by(|wanted| (**wanted).cmp(value)).is_ok())
            })
    }

    /// True when `event` meets the conditions on its kind and `created_at`.
    pub(crate) fn suits_kind_and_time(&self, event: &Event) -> bool {
        self.since.is_none_or(|since| event.created_at() >= since)
            && self.until.is_none_or(|until| event.created_at() <= until)
            && self.kinds.as_ref().is_none_or(|kinds| kinds.binary_search(&event.kind()).is_ok())
    }

    /// True when `event` meets the conditions on its author and its id.
    pub(crate) fn suits_author_and_id(&self, event: &Event) -> bool {
        self.authors.as_ref().is_none_or(|authors| authors.binary_search(&event.pubkey()).is_ok())
            && self.ids.as_ref().is_none_or(|ids| ids.binary_search(&event.id()).is_ok())
    }

    /// The canonical form of every filter that no event can match. Its time window is empty rather than a list: code
    /// that takes an empty list for no condition would widen the answer to everything.
    pub fn nothing() -> Self {
        Self { since: Some(1), until: Some(0), ..Self::default() }
    }

    /// True when no event can ever match: the time window is empty, or a list is.
    pub fn is_impossible(&self) -> bool {
        matches!((self.since, self.until), (Some(since), Some(until)) if since > until)
            || self.ids.as_ref().is_some_and(|ids| ids.is_empty())
            || self.authors.as_ref().is_some_and(|authors| authors.is_empty())
            || self.kinds.as_ref().is_some_and(|kinds| kinds.is_empty())
            || self.tags.iter().any(|condition| condition.values.is_empty())
    }
}
