//! A compact binary form of an event, in which instances send it to each other. The receiver does not parse JSON again:
//! the tags that filters use are given as offsets into the canonical text. It trusts the id.

use super::canonical::{Object, Scalars};
use super::{Event, EventParts, Tag, Tags};
use crate::types::bytes::{Damaged, Reader, push_bytes, push_number};
use crate::types::{EventId, Kind, PublicKey};
use memchr::memmem;

/// The least bytes of a packed event: id, author, signature, and one byte for each other field.
pub(crate) const LEAST_PACKED_BYTES: usize = 32 + 32 + 64 + 8;

const EXPIRES: u8 = 1;
const PROTECTED: u8 = 2;
const COMMITTED_POW: u8 = 4;
const MALFORMED_EXPIRATION: u8 = 8;

/// The length of the canonical text after the content: `,"sig":"`, 128 hex characters, `"}`.
const TAIL_BYTES: usize = 8 + 128 + 2;

impl Event {
    /// Appends the packed form.
    pub(crate) fn pack(&self, out: &mut Vec<u8>) {
        let parts = &self.parts;
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            flag(parts.expires_at.is_some(), EXPIRES)
                | flag(parts.protected, PROTECTED)
                | flag(parts.committed_pow.is_some(), COMMITTED_POW)
                | flag(parts.malformed_expiration, MALFORMED_EXPIRATION),
        );

        out.extend_from_slice(parts.id.as_bytes());
        out.extend_from_slice(parts.pubkey.as_bytes());
        out.extend_from_slice(&parts.signature);
        push_number(parts.created_at.cast_unsigned(), out);
        push_number(parts.kind.0.into(), out);
        if let Some(at) = parts.expires_at {
            push_number(at.cast_unsigned(), out);
        }

        out.extend(parts.committed_pow);
        push_number(parts.tag_count.into(), out);
        push_number(parts.content_chars.into(), out);
        let (tags, content) = bodies(&parts.text);
        push_bytes(tags.as_bytes(), out);
        push_bytes(content.as_bytes(), out);
        pack_tags(&parts.tags, tags, out);
    }

    /// Reads an event that [`pack`](Self::pack) has written. Allocates at most a small multiple of the length of
    /// `bytes`.
    pub(crate) fn unpack(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut from = Reader::new(bytes);
        let flags = from.byte()?;
        let id = EventId::from_bytes(from.array()?);
        let pubkey = PublicKey::from_bytes(from.array()?);
        let signature: [u8; 64] = from.array()?;
        let created_at = from.number()?.cast_signed();
        let kind = Kind(u16::try_from(from.number()?).map_err(|_| Damaged)?);
        let expires_at = if flags & EXPIRES != 0 { Some(from.number()?.cast_signed()) } else { None };
        let committed_pow = if flags & COMMITTED_POW != 0 { Some(from.byte()?) } else { None };
        let tag_count = u32::try_from(from.number()?).map_err(|_| Damaged)?;
        let content_chars = u32::try_from(from.number()?).map_err(|_| Damaged)?;
        let (text, content) = (from.text()?, from.text()?);
        let indexed = unpack_tags(&mut from, text)?;

        // Without the tags' JSON: `Object::write` gets it from `text`.
        let tags = Tags {
            indexed,
            count: tag_count,
            expires_at,
            malformed_expiration: flags & MALFORMED_EXPIRATION != 0,
            protected: flags & PROTECTED != 0,
            committed_pow,
            ..Tags::with_capacity(0)
        };

        if !from.is_empty() {
            return Err(Damaged);
        }
        let scalars = Scalars { pubkey, created_at, kind };
        let object = Object::write(id, scalars, text, content.len(), |out| out.push_str(content), &signature);
        Ok(EventParts::new(id, scalars, tags, content_chars as usize, signature, &object).into())
    }
}

/// The canonical JSON of the tags and of the content, cut out of the text of an event.
fn bodies(text: &str) -> (&str, &str) {
    const TAGS: &str = ",\"tags\":";
    const CONTENT: &str = ",\"content\":";
    // The first match is the field: inside a string JSON escapes the quotation marks, and before the tags there are
    // only hex and numbers.
    let find = || {
        let tags = memmem::find(text.as_bytes(), TAGS.as_bytes())? + TAGS.len();
        let end = tags + memmem::find(text.get(tags..)?.as_bytes(), CONTENT.as_bytes())?;
        let content = text.get(end + CONTENT.len()..text.len().checked_sub(TAIL_BYTES)?)?;
        Some((text.get(tags..end)?, content))
    };
    let found = find();
    debug_assert!(found.is_some(), "the text was written by this module");
    found.unwrap_or_default()
}

/// Appends each tag: its letter, then the offset of its value in `text` from the end of the value before, shifted left
/// by one, and the value's length. Where `text` has the value escaped, the lowest bit is set, and the value itself
/// follows in place of an offset.
fn pack_tags(tags: &[Tag], text: &str, out: &mut Vec<u8>) {
    push_number(tags.len() as u64, out);
    let mut cursor = 0;
    let mut needle = Vec::new();
    for tag in tags {
        out.push(tag.letter);
        needle.clear();
        needle.extend_from_slice(&[b'[', b'"', tag.letter, b'"', b',', b'"']);
        let before = needle.len();
        needle.extend_from_slice(tag.value.as_bytes());
        needle.push(b'"');
        let clean = !tag.value.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
        let found = clean.then(|| memmem::find(text.as_bytes().get(cursor..)?, &needle)).flatten();
        match found {
            Some(at) => {
                let skipped = at + before;
                push_number((skipped as u64) << 1, out);
                push_number(tag.value.len() as u64, out);
                cursor += skipped + tag.value.len();
            }
            None => {
                push_number((tag.value.len() as u64) << 1 | 1, out);
                out.extend_from_slice(tag.value.as_bytes());
            }
        }
    }
}

fn unpack_tags(from: &mut Reader<'_>, text: &str) -> Result<Vec<Tag>, Damaged> {
    let count = from.count(2)?;
    let mut tags = Vec::with_capacity(count);
    let mut cursor = 0_usize;
    for _ in 0..count {
        let letter = from.byte()?;
        let place = from.number()?;
        let length_or_skip = usize::try_from(place >> 1).map_err(|_| Damaged)?;
        let value = if place & 1 == 1 {
            std::str::from_utf8(from.slice(length_or_skip)?).map_err(|_| Damaged)?
        } else {
            let length = usize::try_from(from.number()?).map_err(|_| Damaged)?;
            // Values never overlap, so a damaged message cannot make all of them together longer than the text.
            let start = cursor.checked_add(length_or_skip).ok_or(Damaged)?;
            cursor = start.checked_add(length).ok_or(Damaged)?;
            text.get(start..cursor).ok_or(Damaged)?
        };

        if !letter.is_ascii_alphabetic() {
            return Err(Damaged);
        }
        tags.push(Tag { letter, value: value.into() });
    }
    Ok(tags)
}
