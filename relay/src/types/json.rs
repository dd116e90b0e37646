//! Strict pieces of JSON that the readers and writers of events, filters and messages share.

use super::hex;
use serde::de::{DeserializeSeed, Deserializer, Error, Unexpected, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A longer error loses its middle. It quotes what the client wrote, and what was expected stands at its end.
const MAX_ERROR_BYTES: usize = 240;
const ERROR_HEAD_BYTES: usize = 80;

/// Reads one value and nothing after it. The error is a text for a person, at most a few hundred bytes long.
pub(crate) fn read<'de, S: DeserializeSeed<'de>>(json: &'de str, seed: S) -> Result<S::Value, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    seed.deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| explain(&error))
}

/// The words of an error, without the middle where a quotation makes them too long.
pub(crate) fn explain(error: &serde_json::Error) -> String {
    let words = error.to_string();
    if words.len() <= MAX_ERROR_BYTES {
        return words;
    }
    let head = words.floor_char_boundary(ERROR_HEAD_BYTES);
    let tail = words.ceil_char_boundary(words.len() - (MAX_ERROR_BYTES - ERROR_HEAD_BYTES));
    format!("{} … {}", &words[..head], &words[tail..])
}

/// Appends `text` between quotation marks: `\n \" \\ \r \t \b \f` as NIP-01 has it, the other control characters as
/// `\u00xx`, everything else verbatim.
pub(crate) fn push_string(text: &str, out: &mut String) {
    out.push('"');
    let mut clean_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        // An ASCII byte always stands on a character boundary.
        out.push_str(&text[clean_from..at]);
        clean_from = at + 1;
        match byte {
            b'\n' => out.push_str("\\n"),
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            control => {
                out.push_str("\\u00");
                hex::push(&[control], out);
            }
        }
    }
    out.push_str(&text[clean_from..]);
    out.push('"');
}

/// How many bytes [`push_string`] appends.
pub(crate) fn quoted_len(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'\n' | b'"' | b'\\' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    2 + text.bytes().map(escaped).sum::<usize>()
}

/// Appends, between quotation marks, a text that holds nothing to escape.
pub(crate) fn push_clean_string(text: &str, out: &mut String) {
    out.push('"');
    out.push_str(text);
    out.push('"');
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
