//! The strict reader of an event's JSON: one pass over borrowed text, no tree of values in between.

use super::canonical::{Object, Scalars};
use super::tags::Tags;
use super::{Event, EventError, EventParts};
use crate::types::json::{self, Hex, Integer, Text, once};
use crate::types::{EventId, Kind, PublicKey, Timestamp};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// An event whose fields are well formed and whose id is still only a claim.
pub(crate) struct ParsedEvent<'a> {
    id: EventId,
    scalars: Scalars,
    tags: Tags,
    content: Cow<'a, str>,
    signature: [u8; 64],
}

impl<'a> ParsedEvent<'a> {
    /// Reads one object and nothing after it.
    pub(super) fn from_json(json: &'a str) -> Result<Self, EventError> {
        json::read(json, PhantomData).map_err(EventError::Invalid)
    }

    /// The event, if its id is the hash of its other fields.
    pub(crate) fn check(self) -> Result<Event, EventError> {
        let object = self.write();
        if object.has_id(self.id) { Ok(self.finish(&object)) } else { Err(EventError::WrongId(self.id)) }
    }

    /// The event, its id believed.
    pub(super) fn trust(self) -> Event {
        let object = self.write();
        self.finish(&object)
    }

    fn write(&self) -> Object {
        let push_content = |out: &mut String| {
            let push = if is_clean(&self.content) { json::push_clean_string } else { json::push_string };
            push(&self.content, out);
        };
        Object::write(self.id, self.scalars, &self.tags.text, self.content.len(), push_content, &self.signature)
    }

    fn finish(self, object: &Object) -> Event {
        let chars = self.content.chars().count();
        EventParts::new(self.id, self.scalars, self.tags, chars, self.signature, object).into()
    }
}

impl<'de> Deserialize<'de> for ParsedEvent<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = ParsedEvent<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut id, mut pubkey, mut signature) = (None, None, None);
        let (mut created_at, mut kind, mut tags, mut content) = (None, None, None, None);
        while let Some(key) = map.next_key_seed(Text("a key"))? {
            match &*key {
                "id" => once(&mut id, "id", || map.next_value_seed(Hex(ID)))?,
                "pubkey" => once(&mut pubkey, "pubkey", || map.next_value_seed(Hex(PUBKEY)))?,
                "sig" => once(&mut signature, "sig", || map.next_value_seed(Hex(SIG)))?,
                "created_at" => once(&mut created_at, "created_at", || map.next_value_seed(CREATED_AT))?,
                "kind" => once(&mut kind, "kind", || map.next_value_seed(KIND))?,
                "tags" => once(&mut tags, "tags", || map.next_value_seed(TagsSeed))?,
                "content" => once(&mut content, "content", || map.next_value_seed(Text("`content` as a string")))?,
                // Read iteratively by serde_json, however deep it is nested.
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let missing = A::Error::missing_field;
        Ok(ParsedEvent {
            id: EventId::from_bytes(id.ok_or_else(|| missing("id"))?),
            scalars: Scalars {
                pubkey: PublicKey::from_bytes(pubkey.ok_or_else(|| missing("pubkey"))?),
                // Both fit: the seeds below have seen to it.
                created_at: created_at
                    .and_then(|at| Timestamp::try_from(at).ok())
                    .ok_or_else(|| missing("created_at"))?,
                kind: kind.and_then(|kind| u16::try_from(kind).ok()).map(Kind).ok_or_else(|| missing("kind"))?,
            },
            tags: tags.ok_or_else(|| missing("tags"))?,
            content: content.ok_or_else(|| missing("content"))?,
            signature: signature.ok_or_else(|| missing("sig"))?,
        })
    }
}

/// A string that was borrowed from the JSON stood there without escapes, and JSON lets nothing else through: what is
/// clean there is clean in the canonical text.
#[expect(clippy::ptr_arg, reason = "whether it is borrowed is the very question")]
fn is_clean(parsed: &Cow<'_, str>) -> bool {
    matches!(parsed, Cow::Borrowed(_))
}

const ID: &str = "`id` as 64 lowercase hex characters";
const PUBKEY: &str = "`pubkey` as 64 lowercase hex characters";
const SIG: &str = "`sig` as 128 lowercase hex characters";
const CREATED_AT: Integer =
    Integer { what: "`created_at` as a whole number of seconds, not negative", max: Timestamp::MAX as u64 };
const KIND: Integer = Integer { what: "`kind` as an integer from 0 to 65535", max: u16::MAX as u64 };
const TAGS: &str = "`tags` as an array of arrays of strings, none of them empty";

struct TagsSeed;

impl<'de> DeserializeSeed<'de> for TagsSeed {
    type Value = Tags;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tags, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TagsSeed {
    type Value = Tags;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TAGS)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tags, A::Error> {
        let mut tags = Tags::with_capacity(256);
        while seq.next_element_seed(TagSeed(&mut tags))?.is_some() {}
        tags.finish();
        Ok(tags)
    }
}

struct TagSeed<'t>(&'t mut Tags);

impl<'de> DeserializeSeed<'de> for TagSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TagSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TAGS)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self(tags) = self;
        tags.open();
        let mut next = |tags: &mut Tags| -> Result<Option<Cow<'de, str>>, A::Error> {
            let element = seq.next_element_seed(Text(TAGS))?;
            if let Some(element) = &element {
                tags.element(element, is_clean(element));
            }
            Ok(element)
        };
        let name = next(tags)?.ok_or_else(|| A::Error::invalid_length(0, &TAGS))?;
        let value = next(tags)?;
        let third = if value.is_some() { next(tags)? } else { None };
        if third.is_some() {
            while next(tags)?.is_some() {}
        }
        tags.close(&name, value.as_deref(), third.as_deref());
        Ok(())
    }
}
