//! The strict reader of a filter's JSON, straight into canonical form.

use super::{Filter, FilterError, TagFilter};
use crate::types::json::{self, Hex, Integer, Text, once};
use crate::types::{EventId, Kind, PublicKey, Timestamp};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use std::fmt;

/// Reads a filter inside a message. After a failure, `unsupported` says whether it was for an unknown key.
pub(crate) struct FilterSeed<'a> {
    /// The most values that one list may hold.
    pub(crate) max_values: usize,
    /// Where the words about an unknown key go.
    pub(crate) unsupported: &'a mut Option<String>,
}

impl FilterSeed<'_> {
    pub(super) fn read(json: &str, max_values: usize) -> Result<Filter, FilterError> {
        let mut unsupported = None;
        json::read(json, FilterSeed { max_values, unsupported: &mut unsupported }).map_err(
            |invalid| match unsupported {
                Some(words) => FilterError::Unsupported(words),
                None => FilterError::Invalid(invalid),
            },
        )
    }
}

impl<'de> DeserializeSeed<'de> for FilterSeed<'_> {
    type Value = Filter;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Filter, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FilterSeed<'_> {
    type Value = Filter;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a filter object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Filter, A::Error> {
        let (mut ids, mut authors, mut kinds) = (None, None, None);
        let (mut since, mut until, mut limit) = (None, None, None);
        let mut tags: Vec<TagFilter> = Vec::new();
        let max = self.max_values;
        while let Some(key) = map.next_key_seed(Text("a key"))? {
            match &*key {
                "ids" => {
                    once(&mut ids, "ids", || map.next_value_seed(List { what: IDS, max, element: || Hex::<32>(IDS) }))?
                }
                "authors" => once(&mut authors, "authors", || {
                    map.next_value_seed(List { what: AUTHORS, max, element: || Hex::<32>(AUTHORS) })
                })?,
                "kinds" => {
                    once(&mut kinds, "kinds", || map.next_value_seed(List { what: KINDS, max, element: || KIND }))?
                }
                "since" => {
                    once(&mut since, "since", || map.next_value_seed(time("`since` as an integer, not negative")))?
                }
                "until" => {
                    once(&mut until, "until", || map.next_value_seed(time("`until` as an integer, not negative")))?
                }
                "limit" => once(&mut limit, "limit", || map.next_value_seed(LIMIT))?,
                key => {
                    let [b'#', letter @ (b'a'..=b'z' | b'A'..=b'Z')] = *key.as_bytes() else {
                        *self.unsupported = Some(unknown(key));
                        return Err(A::Error::unknown_field("", &[]));
                    };
                    if tags.iter().any(|condition| condition.letter == letter) {
                        return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
                    }
                    let values = match letter {
                        b'e' | b'p' => {
                            let what = if letter == b'e' { E_TAGS } else { P_TAGS };
                            let list = List { what, max, element: || HexText(what) };
                            map.next_value_seed(list)?
                        }
                        _ => map.next_value_seed(List { what: TAGS, max, element: || OwnedText })?,
                    };
                    tags.push(TagFilter { letter, values: canonical(values) });
                }
            }
        }
        tags.sort_unstable_by_key(|condition| condition.letter);
        Ok(Filter {
            ids: ids.map(|ids| canonical_hashes(ids, EventId::from_bytes)),
            authors: authors.map(|authors| canonical_hashes(authors, PublicKey::from_bytes)),
            // Both conversions hold: the seeds have seen to the range.
            kinds: kinds
                .map(|kinds| canonical(kinds.into_iter().filter_map(|kind| kind.try_into().ok().map(Kind)).collect())),
            tags: tags.into(),
            since: since.and_then(|second| Timestamp::try_from(second).ok()),
            until: until.and_then(|second| Timestamp::try_from(second).ok()),
            limit: limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        })
    }
}

const IDS: &str = "`ids` as a non-empty array of ids, each 64 lowercase hex characters";
const AUTHORS: &str = "`authors` as a non-empty array of public keys, each 64 lowercase hex characters";
const KINDS: &str = "`kinds` as a non-empty array of integers from 0 to 65535";
const E_TAGS: &str = "`#e` as a non-empty array of ids, each 64 lowercase hex characters";
const P_TAGS: &str = "`#p` as a non-empty array of public keys, each 64 lowercase hex characters";
const TAGS: &str = "a tag filter as a non-empty array of strings";
const KIND: Integer = Integer { what: KINDS, max: u16::MAX as u64 };
const LIMIT: Integer = Integer { what: "`limit` as an integer, not negative", max: u64::MAX };

const fn time(what: &'static str) -> Integer {
    Integer { what, max: Timestamp::MAX as u64 }
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

/// A non-empty array whose elements `element` reads.
struct List<F> {
    what: &'static str,
    max: usize,
    element: F,
}

impl<'de, S: DeserializeSeed<'de>, F: Fn() -> S> DeserializeSeed<'de> for List<F> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de>, F: Fn() -> S> Visitor<'de> for List<F> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed((self.element)())? {
            if values.len() == self.max {
                return Err(A::Error::custom(format_args!("more than {} values in one list", self.max)));
            }
            values.push(value);
        }
        if values.is_empty() { Err(A::Error::invalid_length(0, &self)) } else { Ok(values) }
    }
}

/// A tag value of any kind.
struct OwnedText;

impl<'de> DeserializeSeed<'de> for OwnedText {
    type Value = Box<str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Box<str>, D::Error> {
        Text(TAGS).deserialize(deserializer).map(Into::into)
    }
}

/// A tag value that must be 64 lowercase hex characters, kept as text.
struct HexText(&'static str);

impl<'de> DeserializeSeed<'de> for HexText {
    type Value = Box<str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Box<str>, D::Error> {
        let text = Text(self.0).deserialize(deserializer)?;
        match EventId::from_hex(text.as_bytes()) {
            Ok(_) => Ok(text.into()),
            Err(_) => Err(D::Error::invalid_value(Unexpected::Str(&text), &self.0)),
        }
    }
}
