//! Strict pieces of JSON that the readers and writers of events, filters and messages share.

use super::hex;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use std::borrow::Cow;
use std::fmt;

/// Reads one value and nothing after it. The error is a sentence for a person, at most a few hundred bytes long.
pub(crate) fn read<'de, E: Expected<'de>>(json: &'de str, expected: E) -> Result<E::Value, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Strict(expected)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| explain(&error))
}

/// An error as a sentence for a person. The sentence about a wrong type names the field, so its place is left out; for
/// a syntax error the place is what helps.
pub(crate) fn explain(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let bare = words.strip_suffix(&place).unwrap_or(&words);
    match error.classify() {
        Category::Data | Category::Io => bare.to_owned(),
        Category::Eof => "the text ends too early to be JSON".to_owned(),
        // JSON itself has no such bound.
        Category::Syntax if bare == "number out of range" => "a number is too large".to_owned(),
        Category::Syntax if bare == "recursion limit exceeded" => "the JSON is nested too deeply".to_owned(),
        Category::Syntax => format!("the text is not JSON{place}: {bare}"),
    }
}

/// One JSON value that has to be of a certain type. A reader takes up the types that it expects; every other type is
/// refused with [`wrong`](Self::wrong), so that no client ever reads the parser's own words.
pub(crate) trait Expected<'de>: Sized {
    /// What is read.
    type Value;

    /// What the value must be, as a sentence for a person.
    fn wrong(&self) -> Cow<'static, str>;

    /// Takes a string, borrowed where it holds no escapes.
    fn string<E: Error>(self, _text: Cow<'de, str>) -> Result<Self::Value, E> {
        Err(E::custom(self.wrong()))
    }

    /// Takes an integer that is not negative; `1.0` and `1e0` are none.
    fn integer<E: Error>(self, _number: u64) -> Result<Self::Value, E> {
        Err(E::custom(self.wrong()))
    }

    /// Takes an array.
    fn array<A: SeqAccess<'de>>(self, _elements: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom(self.wrong()))
    }

    /// Takes an object.
    fn object<A: MapAccess<'de>>(self, _fields: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom(self.wrong()))
    }
}

/// Makes serde read what an [`Expected`] expects.
pub(crate) struct Strict<E>(pub(crate) E);

impl<'de, E: Expected<'de>> DeserializeSeed<'de> for Strict<E> {
    type Value = E::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<E::Value, D::Error> {
        // A request for one type makes serde_json refuse every other type in its own words. With `deserialize_any` each
        // type reaches the visitor, which refuses it with the sentence of the field.
        deserializer.deserialize_any(self)
    }
}

impl<'de, X: Expected<'de>> Visitor<'de> for Strict<X> {
    type Value = X::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.wrong())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<X::Value, E> {
        self.0.string(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<X::Value, E> {
        self.0.string(Cow::Owned(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<X::Value, E> {
        self.0.integer(number)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<X::Value, E> {
        Err(E::custom(self.0.wrong()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<X::Value, E> {
        Err(E::custom(self.0.wrong()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<X::Value, E> {
        Err(E::custom(self.0.wrong()))
    }

    fn visit_unit<E: Error>(self) -> Result<X::Value, E> {
        Err(E::custom(self.0.wrong()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<X::Value, A::Error> {
        self.0.array(elements)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<X::Value, A::Error> {
        self.0.object(fields)
    }
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
        return Err(twice(key));
    }
    *slot = Some(value()?);
    Ok(())
}

/// Refuses a second value under `key`.
pub(crate) fn twice<E: Error>(key: &str) -> E {
    E::custom(format_args!("{key} is there twice"))
}

/// The name of a field.
pub(crate) struct FieldName;

impl<'de> Expected<'de> for FieldName {
    type Value = Cow<'de, str>;

    fn wrong(&self) -> Cow<'static, str> {
        "a key must be a string".into()
    }

    fn string<E: Error>(self, text: Cow<'de, str>) -> Result<Self::Value, E> {
        Ok(text)
    }
}

/// A string. Carries the sentence for what is none.
pub(crate) struct Text(pub(crate) &'static str);

impl<'de> Expected<'de> for Text {
    type Value = Cow<'de, str>;

    fn wrong(&self) -> Cow<'static, str> {
        self.0.into()
    }

    fn string<E: Error>(self, text: Cow<'de, str>) -> Result<Self::Value, E> {
        Ok(text)
    }
}

/// An integer from 0 to `max`.
pub(crate) struct Integer {
    /// The sentence for what is none.
    pub(crate) wrong: &'static str,
    /// The greatest that is taken.
    pub(crate) max: u64,
}

impl Expected<'_> for Integer {
    type Value = u64;

    fn wrong(&self) -> Cow<'static, str> {
        self.wrong.into()
    }

    fn integer<E: Error>(self, number: u64) -> Result<u64, E> {
        if number <= self.max { Ok(number) } else { Err(E::custom(self.wrong)) }
    }
}

/// `N` bytes as exactly `2 * N` lowercase hex characters. Carries the sentence for what is none.
pub(crate) struct Hex<const N: usize>(pub(crate) &'static str);

impl<'de, const N: usize> Expected<'de> for Hex<N> {
    type Value = [u8; N];

    fn wrong(&self) -> Cow<'static, str> {
        self.0.into()
    }

    fn string<E: Error>(self, text: Cow<'de, str>) -> Result<[u8; N], E> {
        hex::decode(text.as_bytes()).map_err(|_| E::custom(self.0))
    }
}
