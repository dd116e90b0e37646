//! The strict reader of an event's JSON: one pass over borrowed text, no tree of values in between.

use super::canonical::{Object, Scalars};
use super::tags::Tags;
use super::{Event, EventError, EventParts};
use crate::types::json::{self, Expected, FieldName, Hex, Integer, Strict, Text, once};
use crate::types::{EventId, Kind, PublicKey, Timestamp};
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess};
use std::borrow::Cow;

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
        json::read(json, EventSeed).map_err(EventError::Invalid)
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

/// Reads an event.
pub(crate) struct EventSeed;

impl<'de> Expected<'de> for EventSeed {
    type Value = ParsedEvent<'de>;

    fn wrong(&self) -> Cow<'static, str> {
        "an event must be an object".into()
    }

    fn object<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut id, mut pubkey, mut signature) = (None, None, None);
        let (mut created_at, mut kind, mut tags, mut content) = (None, None, None, None);
        while let Some(key) = map.next_key_seed(Strict(FieldName))? {
            match &*key {
                "id" => once(&mut id, "id", || map.next_value_seed(Strict(Hex(ID))))?,
                "pubkey" => once(&mut pubkey, "pubkey", || map.next_value_seed(Strict(Hex(PUBKEY))))?,
                "sig" => once(&mut signature, "sig", || map.next_value_seed(Strict(Hex(SIG))))?,
                "created_at" => once(&mut created_at, "created_at", || map.next_value_seed(Strict(CREATED_AT)))?,
                "kind" => once(&mut kind, "kind", || map.next_value_seed(Strict(KIND)))?,
                "tags" => once(&mut tags, "tags", || map.next_value_seed(Strict(TagsSeed)))?,
                "content" => once(&mut content, "content", || map.next_value_seed(Strict(CONTENT)))?,
                // Read iteratively by serde_json, however deep it is nested.
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let missing = |key: &str| A::Error::custom(format_args!("the event has no {key}"));
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

const ID: &str = "id must be 64 lowercase hex characters";
const PUBKEY: &str = "pubkey must be 64 lowercase hex characters";
const SIG: &str = "sig must be 128 lowercase hex characters";
const CREATED_AT: Integer =
    Integer { wrong: "created_at must be an integer of seconds, not negative", max: Timestamp::MAX as u64 };
const KIND: Integer = Integer { wrong: "kind must be an integer from 0 to 65535", max: u16::MAX as u64 };
const CONTENT: Text = Text("content must be a string");
const TAGS: &str = "tags must be a list of lists of strings, none of them empty";

struct TagsSeed;

impl<'de> Expected<'de> for TagsSeed {
    type Value = Tags;

    fn wrong(&self) -> Cow<'static, str> {
        TAGS.into()
    }

    fn array<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tags, A::Error> {
        let mut tags = Tags::with_capacity(256);
        while seq.next_element_seed(Strict(TagSeed(&mut tags)))?.is_some() {}
        tags.finish();
        Ok(tags)
    }
}

struct TagSeed<'t>(&'t mut Tags);

impl<'de> Expected<'de> for TagSeed<'_> {
    type Value = ();

    fn wrong(&self) -> Cow<'static, str> {
        TAGS.into()
    }

    fn array<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self(tags) = self;
        tags.open();
        let mut next = |tags: &mut Tags| -> Result<Option<Cow<'de, str>>, A::Error> {
            let element = seq.next_element_seed(Strict(Text(TAGS)))?;
            if let Some(element) = &element {
                tags.element(element, is_clean(element));
            }
            Ok(element)
        };
        let name = next(tags)?.ok_or_else(|| A::Error::custom(TAGS))?;
        let value = next(tags)?;
        let third = if value.is_some() { next(tags)? } else { None };
        if third.is_some() {
            while next(tags)?.is_some() {}
        }
        tags.close(&name, value.as_deref(), third.as_deref());
        Ok(())
    }
}
