//! The canonical text of an event and the hash that is its id (NIP-01).

use crate::types::{EventId, Kind, PublicKey, Timestamp, hex};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::ops::Range;

/// The fields whose text opens the object and the serialisation that is hashed.
#[derive(Clone, Copy)]
pub(super) struct Scalars {
    pub(super) pubkey: PublicKey,
    pub(super) created_at: Timestamp,
    pub(super) kind: Kind,
}

/// A written event and where its hashed parts stand.
pub(super) struct Object {
    /// The whole object.
    pub(super) text: String,
    scalars: Scalars,
    tags: Range<usize>,
    content: Range<usize>,
}

impl Object {
    /// Writes the object. `tags` is canonical JSON already; `push_content` appends the content's.
    pub(super) fn write(
        id: EventId,
        scalars: Scalars,
        tags: &str,
        content_bytes: usize,
        push_content: impl FnOnce(&mut String),
        signature: &[u8; 64],
    ) -> Self {
        let mut text = String::with_capacity(tags.len() + content_bytes + 384);
        text.push_str("{\"id\":\"");
        id.push_hex(&mut text);
        text.push_str("\",\"pubkey\":\"");
        scalars.pubkey.push_hex(&mut text);
        // Writing to a String cannot fail.
        let _ = write!(text, "\",\"created_at\":{},\"kind\":{},\"tags\":", scalars.created_at, scalars.kind.0);
        let tags_start = text.len();
        text.push_str(tags);
        let tags = tags_start..text.len();
        text.push_str(",\"content\":");
        let content_start = text.len();
        push_content(&mut text);
        let content = content_start..text.len();
        text.push_str(",\"sig\":\"");
        hex::push(signature, &mut text);
        text.push_str("\"}");
        Self { text, scalars, tags, content }
    }

    /// The id: the hash of the object's fields, with control characters as they are written, `\u00xx`.
    pub(super) fn hash(&self) -> EventId {
        hash(self.scalars, &self.text[self.tags.clone()], &self.text[self.content.clone()])
    }

    /// True when `id` is the hash in one of the two forms that clients use: NIP-01 to the letter hashes control
    /// characters verbatim, `JSON.stringify` as `\u00xx`. The second form differs only where there are such characters.
    pub(super) fn has_id(&self, id: EventId) -> bool {
        if self.hash() == id {
            return true;
        }
        let (tags, content) = (&self.text[self.tags.clone()], &self.text[self.content.clone()]);
        let (raw_tags, raw_content) = (verbatim_controls(tags), verbatim_controls(content));
        (raw_tags.is_some() || raw_content.is_some())
            && id == hash(self.scalars, raw_tags.as_deref().unwrap_or(tags), raw_content.as_deref().unwrap_or(content))
    }
}

/// SHA-256 of `[0,pubkey,created_at,kind,tags,content]`.
fn hash(scalars: Scalars, tags: &str, content: &str) -> EventId {
    let mut front = String::with_capacity(128);
    front.push_str("[0,\"");
    scalars.pubkey.push_hex(&mut front);
    // Writing to a String cannot fail.
    let _ = write!(front, "\",{},{},", scalars.created_at, scalars.kind.0);
    let mut hash = Sha256::new();
    hash.update(front);
    hash.update(tags);
    hash.update(",");
    hash.update(content);
    hash.update("]");
    EventId::from_bytes(hash.finalize().into())
}

/// Turns each `\u00xx` of a canonical text into the character itself; `None` where there is none.
fn verbatim_controls(text: &str) -> Option<String> {
    // A quick look first: only a false alarm (an escaped backslash before `u00`) comes further without need.
    memchr::memmem::find(text.as_bytes(), b"\\u00")?;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut found = false;
    while let Some((clean, escape)) = rest.split_once('\\') {
        out.push_str(clean);
        let control = escape.strip_prefix("u00").and_then(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok());
        let used = match control {
            Some(control) => {
                out.push(char::from(control));
                found = true;
                5
            }
            None => {
                out.push('\\');
                out.push_str(escape.get(..1).unwrap_or_default());
                1
            }
        };
        rest = escape.get(used..).unwrap_or_default();
    }
    out.push_str(rest);
    found.then_some(out)
}
