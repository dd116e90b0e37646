//! An event: parsed once, re-encoded once into its canonical text, then shared by every reader.

mod build;
mod canonical;
mod packed;
mod parse;
#[cfg(test)]
mod properties;
mod tags;
#[cfg(test)]
mod tests;

pub(crate) use packed::LEAST_PACKED_BYTES;
pub(crate) use parse::EventSeed;

use super::{EventId, Kind, KindClass, PublicKey, Timestamp};
use canonical::{Object, Scalars};
use parse::ParsedEvent;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use tags::Tags;

/// One single-letter tag: its letter and its first value, the only parts that filters look at (NIP-01).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag {
    /// `a` to `z` or `A` to `Z`.
    pub letter: u8,
    /// The tag's second element, unescaped.
    pub value: Box<str>,
}

/// An event whose fields and id were checked. Its signature was not, unless it travels as [`Verified`].
#[derive(Debug, Clone)]
pub struct Event {
    parts: EventParts,
}

/// Why a text is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not the JSON that NIP-01 asks for; says what and where, for a person, in at most a few hundred bytes.
    #[error("{0}")]
    Invalid(String),
    /// All fields are well formed, but the id is not the hash of the others.
    #[error("the id is not the hash of the event")]
    WrongId(EventId),
}

/// The fields of an [`Event`]; only the parser and the builder in this folder fill them.
#[derive(Debug, Clone)]
struct EventParts {
    /// The id, equal to the SHA-256 of the canonical serialisation.
    id: EventId,
    /// The author.
    pubkey: PublicKey,
    /// When the author says it was made.
    created_at: Timestamp,
    /// The kind.
    kind: Kind,
    /// The BIP-340 signature of the id.
    signature: [u8; 64],
    /// What [`Event::tags`] says.
    tags: Box<[Tag]>,
    /// How many tags the event has, of any name.
    tag_count: u32,
    /// The number of Unicode characters of `content` (what NIP-11's `max_content_length` counts).
    content_chars: u32,
    /// The second from which the event counts as expired (NIP-40): the earliest of its `expiration` tags.
    expires_at: Option<Timestamp>,
    /// True when an `expiration` tag has a value that is no whole number of seconds. An empty value counts as no tag.
    malformed_expiration: bool,
    /// True when a `["-"]` tag asks relays to take the event from its author only (NIP-70).
    protected: bool,
    /// The target that a `nonce` tag commits to (NIP-13).
    committed_pow: Option<u8>,
    /// The canonical JSON object, `{"id":…,"pubkey":…,"created_at":…,"kind":…,"tags":…,"content":…,"sig":…}`,
    /// without white space, escaped as NIP-01 says; other control characters as `\u00xx`, for JSON allows no less.
    text: Arc<str>,
}

impl EventParts {
    fn new(
        id: EventId,
        scalars: Scalars,
        tags: Tags,
        content_chars: usize,
        signature: [u8; 64],
        object: &Object,
    ) -> Self {
        let mut indexed = tags.indexed;
        if scalars.kind.class() == KindClass::Addressable && indexed.iter().all(|tag| tag.letter != b'd') {
            indexed.push(Tag { letter: b'd', value: "".into() });
        }
        Self {
            id,
            pubkey: scalars.pubkey,
            created_at: scalars.created_at,
            kind: scalars.kind,
            signature,
            tags: indexed.into(),
            tag_count: tags.count,
            content_chars: u32::try_from(content_chars).unwrap_or(u32::MAX),
            expires_at: tags.expires_at,
            malformed_expiration: tags.malformed_expiration,
            protected: tags.protected,
            committed_pow: tags.committed_pow,
            text: object.text.as_str().into(),
        }
    }
}

impl From<EventParts> for Event {
    fn from(parts: EventParts) -> Self {
        Self { parts }
    }
}

impl Event {
    /// Reads a client's JSON object strictly (NIP-01) and checks the id, not the signature. Every required key stands
    /// there exactly once; other keys are dropped.
    pub fn parse(json: &str) -> Result<Self, EventError> {
        ParsedEvent::from_json(json)?.check()
    }

    /// Reads a text that [`text`](Self::text) gave and a store kept: as strict, but the id is believed.
    pub fn from_stored(text: &str) -> Result<Self, EventError> {
        Ok(ParsedEvent::from_json(text)?.trust())
    }

    /// The id.
    pub fn id(&self) -> EventId {
        self.parts.id
    }

    /// The author.
    pub fn pubkey(&self) -> PublicKey {
        self.parts.pubkey
    }

    /// When the author says it was made.
    pub fn created_at(&self) -> Timestamp {
        self.parts.created_at
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.parts.kind
    }

    /// The BIP-340 signature of the id.
    pub fn signature(&self) -> &[u8; 64] {
        &self.parts.signature
    }

    /// The single-letter tags that have a value, in the event's order. An addressable event without such a `d` has an
    /// empty one at the end: its identifier is empty (NIP-01), and `{"#d": [""]}` finds it.
    pub fn tags(&self) -> &[Tag] {
        &self.parts.tags
    }

    /// The values of the tags named `letter`.
    pub fn tag_values(&self, letter: u8) -> impl Iterator<Item = &str> {
        self.parts.tags.iter().filter(move |tag| tag.letter == letter).map(|tag| &*tag.value)
    }

    /// The `d` value that tells addressable events of one kind apart; empty where there is none.
    pub fn identifier(&self) -> &str {
        self.tag_values(b'd').next().unwrap_or("")
    }

    /// How many tags the event has, of any name.
    pub fn tag_count(&self) -> u32 {
        self.parts.tag_count
    }

    /// The number of Unicode characters of `content`.
    pub fn content_chars(&self) -> u32 {
        self.parts.content_chars
    }

    /// The second from which the event counts as expired (NIP-40).
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.parts.expires_at
    }

    /// True when an `expiration` tag says something that is no time: what the author wants gone would stay for ever.
    pub fn has_malformed_expiration(&self) -> bool {
        self.parts.malformed_expiration
    }

    /// True once the event has expired: NIP-40 says from that second on.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.parts.expires_at.is_some_and(|at| at <= now)
    }

    /// True when only its author may hand the event in (NIP-70).
    pub fn is_protected(&self) -> bool {
        self.parts.protected
    }

    /// The target that a `nonce` tag commits to (NIP-13).
    pub fn committed_pow(&self) -> Option<u8> {
        self.parts.committed_pow
    }

    /// The content, unescaped. Not kept, but read from [`text`](Self::text) anew.
    pub fn content(&self) -> String {
        #[derive(Deserialize)]
        struct Content<'a> {
            #[serde(borrow)]
            content: Cow<'a, str>,
        }
        // The text was written by this module: it cannot fail to parse.
        serde_json::from_str::<Content<'_>>(self.text()).map(|event| event.content.into_owned()).unwrap_or_default()
    }

    /// The canonical JSON object, the only form that is stored and served.
    pub fn text(&self) -> &Arc<str> {
        &self.parts.text
    }
}

/// An event whose signature holds: the only thing that a store accepts. Made by the `verify` station, or by an
/// operator's import that was told to trust its source.
#[derive(Debug, Clone)]
pub struct Verified(Arc<Event>);

impl Verified {
    /// Vouches for the signature of `event`. The caller has checked it, or the operator has said not to.
    pub fn vouch(event: Arc<Event>) -> Self {
        Self(event)
    }

    /// The event.
    pub fn event(&self) -> &Arc<Event> {
        &self.0
    }
}
