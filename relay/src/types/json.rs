//! Strict pieces of JSON that the readers of events, filters and messages share.

use super::hex;
use serde::de::{DeserializeSeed, Deserializer, Error, Unexpected, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The most bytes of an error's text: a client's own words may be quoted in it, and those can be long.
const MAX_ERROR_BYTES: usize = 200;

/// Reads one value and nothing after it. The error is a text for a person, at most a few hundred bytes long.
pub(crate) fn read<'de, S: DeserializeSeed<'de>>(json: &'de str, seed: S) -> Result<S::Value, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    seed.deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| explain(&error))
}

/// The words of an error, shortened in the middle of a quotation if need be.
pub(crate) fn explain(error: &serde_json::Error) -> String {
    let mut words = error.to_string();
    if words.len() > MAX_ERROR_BYTES {
        words.truncate(words.floor_char_boundary(MAX_ERROR_BYTES));
        words.push('…');
    }
    words
}

/// Parses `value` once; a second one under the same key is an error.
pub(crate) fn once<T, E: Error>(
    slot: &mut Option<T>,
    key: &'static str,
    value: impl FnOnce() -> Result<T, E>,
) -> Result<(), E> {
    if slot.is_some() {
        return Err(E::duplicate_field(key));
    }
    *slot = Some(value()?);
    Ok(())
}

/// A string, borrowed where it holds no escapes. Carries what is expected, for the error.
pub(crate) struct Text(pub(crate) &'static str);

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// An integer from 0 to `max`; `1.0` and `1e0` are none.
pub(crate) struct Integer {
    /// What is expected, for the error.
    pub(crate) what: &'static str,
    /// The greatest that is taken.
    pub(crate) max: u64,
}

impl<'de> DeserializeSeed<'de> for Integer {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_u64(self)
    }
}

impl Visitor<'_> for Integer {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        if number <= self.max { Ok(number) } else { Err(E::invalid_value(Unexpected::Unsigned(number), &self)) }
    }
}

/// `N` bytes as exactly `2 * N` lowercase hex characters. Carries what is expected, for the error.
pub(crate) struct Hex<const N: usize>(pub(crate) &'static str);

impl<'de, const N: usize> DeserializeSeed<'de> for Hex<N> {
    type Value = [u8; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<[u8; N], D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for Hex<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<[u8; N], E> {
        hex::decode(text.as_bytes()).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}
