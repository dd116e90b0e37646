//! The strict reader of a filter's JSON, straight into canonical form.

use super::{Filter, FilterError, TagFilter};
use crate::types::json::{self, Expected, FieldName, Hex, Integer, Strict, once, twice};
use crate::types::{EventId, Kind, PublicKey, Timestamp};
use serde::de::{Error, MapAccess, SeqAccess};
use std::borrow::Cow;

/// Reads a filter inside a message. After a failure, `unsupported` says whether it was for an unknown key.
pub(crate) struct FilterSeed<'a> {
    /// The most values that one list may hold.
    pub(crate) max_values: usize,
    /// `&x` is a condition (NIP-91) and not an unknown key.
    pub(crate) and_tags: bool,
    /// Where the words about an unknown key go.
    pub(crate) unsupported: &'a mut Option<String>,
}

impl FilterSeed<'_> {
    pub(super) fn read(json: &str, max_values: usize, and_tags: bool) -> Result<Filter, FilterError> {
        let mut unsupported = None;
        json::read(json, FilterSeed { max_values, and_tags, unsupported: &mut unsupported }).map_err(|invalid| {
            match unsupported {
                Some(words) => FilterError::Unsupported(words),
                None => FilterError::Invalid(invalid),
            }
        })
    }
}

impl<'de> Expected<'de> for FilterSeed<'_> {
    type Value = Filter;

    fn wrong(&self) -> Cow<'static, str> {
        "a filter must be an object".into()
    }

    fn object<A: MapAccess<'de>>(self, mut map: A) -> Result<Filter, A::Error> {
        let (mut ids, mut authors, mut kinds) = (None, None, None);
        let (mut since, mut until, mut limit) = (None, None, None);
        let (mut any, mut all) = (Vec::<TagFilter>::new(), Vec::<TagFilter>::new());
        let max = self.max_values;
        while let Some(key) = map.next_key_seed(Strict(FieldName))? {
            match &*key {
                "ids" => once(&mut ids, "ids", || {
                    map.next_value_seed(Strict(List { wrong: || IDS.into(), max, element: || Hex::<32>(IDS) }))
                })?,
                "authors" => once(&mut authors, "authors", || {
                    map.next_value_seed(Strict(List { wrong: || AUTHORS.into(), max, element: || Hex::<32>(AUTHORS) }))
                })?,
                "kinds" => once(&mut kinds, "kinds", || {
                    map.next_value_seed(Strict(List { wrong: || KINDS.into(), max, element: || KIND }))
                })?,
                "since" => once(&mut since, "since", || map.next_value_seed(Strict(SINCE)))?,
                "until" => once(&mut until, "until", || map.next_value_seed(Strict(UNTIL)))?,
                "limit" => once(&mut limit, "limit", || map.next_value_seed(Strict(LIMIT)))?,
                key => {
                    let [sign @ (b'#' | b'&'), letter @ (b'a'..=b'z' | b'A'..=b'Z')] = *key.as_bytes() else {
                        *self.unsupported = Some(unknown(key));
                        return Err(A::Error::custom("unknown key"));
                    };
                    if sign == b'&' && !self.and_tags {
                        *self.unsupported = Some(unknown(key));
                        return Err(A::Error::custom("unknown key"));
                    }
                    let conditions = if sign == b'#' { &mut any } else { &mut all };
                    if conditions.iter().any(|condition| condition.letter == letter) {
                        return Err(twice(key));
                    }
                    let value = TagValue { sign, letter };
                    let list = List { wrong: || value.wrong(), max, element: || value };
                    conditions.push(TagFilter { letter, values: canonical(map.next_value_seed(Strict(list))?) });
                }
            }
        }
        if all.iter().map(|condition| condition.values.len()).sum::<usize>() > MAX_AND_VALUES {
            return Err(A::Error::custom(format_args!(
                "the & lists of one filter may have at most {MAX_AND_VALUES} values"
            )));
        }
        // No `created_at` is beyond `Timestamp::MAX`.
        let never = since.is_some_and(|since| Timestamp::try_from(since).is_err());
        let filter = Filter {
            ids: ids.map(|ids| canonical_hashes(ids, EventId::from_bytes)),
            authors: authors.map(|authors| canonical_hashes(authors, PublicKey::from_bytes)),
            // No event has a kind above 65535: the condition without it selects the same.
            kinds: kinds.map(|kinds| {
                canonical(kinds.into_iter().filter_map(|kind| u16::try_from(kind).ok().map(Kind)).collect())
            }),
            tags: conditions(any, all),
            since: since.and_then(|second| Timestamp::try_from(second).ok()),
            // A bound beyond `Timestamp::MAX` excludes no event.
            until: until.and_then(|second| Timestamp::try_from(second).ok()),
            limit: limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        };
        Ok(if never || filter.is_impossible() { Filter::nothing() } else { filter })
    }
}

const IDS: &str = "ids must be a list of ids, each 64 lowercase hex characters";
const AUTHORS: &str = "authors must be a list of public keys, each 64 lowercase hex characters";
const KINDS: &str = "kinds must be a list of integers from 0 to 65535";
const KIND: Integer = Integer { wrong: "kinds must be integers from 0 to 65535", max: u64::MAX };
const SINCE: Integer = Integer { wrong: "since must be an integer, not negative", max: u64::MAX };
const UNTIL: Integer = Integer { wrong: "until must be an integer, not negative", max: u64::MAX };
const LIMIT: Integer = Integer { wrong: "limit must be an integer, not negative", max: u64::MAX };

/// The most values of all `&x` of a filter together. Each is a condition of its own, with a part in a statement's text.
const MAX_AND_VALUES: usize = 16;

/// The conditions of `#x` and `&x` lists. Each value of `&x` is a condition by itself, and no choice of the `#x` beside
/// it: a `#x` of nothing else says nothing more (NIP-91). An empty list of either remains one that never holds.
fn conditions(mut any: Vec<TagFilter>, all: Vec<TagFilter>) -> Box<[TagFilter]> {
    for TagFilter { letter, values } in all {
        if let Some(at) = any.iter().position(|condition| condition.letter == letter && !condition.values.is_empty()) {
            let TagFilter { values: choices, .. } = any.swap_remove(at);
            let others: Box<[_]> = choices.into_iter().filter(|choice| values.binary_search(choice).is_err()).collect();
            if !others.is_empty() {
                any.push(TagFilter { letter, values: others });
            }
        }
        if values.is_empty() {
            any.push(TagFilter { letter, values });
        } else {
            any.extend(values.into_iter().map(|value| TagFilter { letter, values: [value].into() }));
        }
    }
    any.sort_unstable_by(|a, b| (a.letter, &a.values).cmp(&(b.letter, &b.values)));
    any.into()
}

/// The most characters of an unknown key that are repeated to the client.
const MAX_KEY_CHARS: usize = 32;

fn unknown(key: &str) -> String {
    let shown: String = key.chars().take(MAX_KEY_CHARS).collect();
    format!("unknown filter key `{shown}`")
}

fn canonical<T: Ord>(mut values: Vec<T>) -> Box<[T]> {
    values.sort_unstable();
    values.dedup();
    values.into()
}

/// As [`canonical`], but twice as fast: nearly always the first eight bytes decide.
fn canonical_hashes<T>(mut values: Vec<[u8; 32]>, new: fn([u8; 32]) -> T) -> Box<[T]> {
    let front = |bytes: &[u8; 32]| bytes.first_chunk().map(|front| u64::from_be_bytes(*front));
    values.sort_unstable_by(|a, b| front(a).cmp(&front(b)).then_with(|| a.cmp(b)));
    values.dedup();
    values.into_iter().map(new).collect()
}

/// An array whose elements `element` expects.
struct List<W, F> {
    /// The sentence for what is no array.
    wrong: W,
    max: usize,
    element: F,
}

impl<'de, E: Expected<'de>, W: Fn() -> Cow<'static, str>, F: Fn() -> E> Expected<'de> for List<W, F> {
    type Value = Vec<E::Value>;

    fn wrong(&self) -> Cow<'static, str> {
        (self.wrong)()
    }

    fn array<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(Strict((self.element)()))? {
            if values.len() == self.max {
                return Err(A::Error::custom(format_args!("more than {} values in one list", self.max)));
            }
            values.push(value);
        }
        Ok(values)
    }
}

/// A tag's value: any string, but for those of `e` and `p`, which are 64 lowercase hex characters (NIP-01).
#[derive(Clone, Copy)]
struct TagValue {
    /// `#` or `&`.
    sign: u8,
    letter: u8,
}

impl<'de> Expected<'de> for TagValue {
    type Value = Box<str>;

    fn wrong(&self) -> Cow<'static, str> {
        let elements = match self.letter {
            b'e' => "ids, each 64 lowercase hex characters",
            b'p' => "public keys, each 64 lowercase hex characters",
            _ => "strings",
        };
        format!("{}{} must be a list of {elements}", char::from(self.sign), char::from(self.letter)).into()
    }

    fn string<E: Error>(self, text: Cow<'de, str>) -> Result<Box<str>, E> {
        if matches!(self.letter, b'e' | b'p') && EventId::from_hex(text.as_bytes()).is_err() {
            return Err(E::custom(self.wrong()));
        }
        Ok(text.into())
    }
}
