//! A stored event as it is sent, and its place in the order of NIP-01.

use super::bytes::{Damaged, Reader, push_bytes, push_number};
use super::{Event, EventId, Timestamp, hex};
use std::sync::Arc;

/// What orders a row and names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// When its author says it was made.
    pub created_at: Timestamp,
    /// Its id.
    pub id: EventId,
}

/// A stored event as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the order and its id.
    pub key: Key,
    /// The second from which it must not be sent any more.
    pub expires_at: Option<Timestamp>,
    /// The canonical JSON object.
    pub text: Arc<str>,
}

impl From<&Event> for Row {
    fn from(event: &Event) -> Self {
        Self {
            key: Key { created_at: event.created_at(), id: event.id() },
            expires_at: event.expires_at(),
            text: event.text().clone(),
        }
    }
}

impl Key {
    /// The sort key of "newest first, ties by lowest id" (NIP-01).
    pub fn order(&self) -> (std::cmp::Reverse<Timestamp>, EventId) {
        (std::cmp::Reverse(self.created_at), self.id)
    }
}

/// How the canonical text of an event begins and goes on: between these stand hex characters, then what has no fixed
/// form (`created_at`, kind, tags, content), then the signature.
const ID: &str = "{\"id\":\"";
const PUBKEY: &str = "\",\"pubkey\":\"";
const CREATED_AT: &str = "\",\"created_at\":";
const SIGNATURE: &str = ",\"sig\":\"";
const END: &str = "\"}";

/// The fewest bytes that a packed row takes.
pub(crate) const LEAST_PACKED_ROW_BYTES: usize = 1 + 32 + 32 + 64 + 2;

impl Row {
    /// Appends a compact form for the way between instances: what the text has in hex as bytes, and nothing twice.
    /// `false`: the text is not canonical, and nothing useful was appended.
    pub(crate) fn pack(&self, out: &mut Vec<u8>) -> bool {
        push_number(self.expires_at.map_or(0, |at| at.cast_unsigned().wrapping_add(1)), out);
        let mut packed = || {
            let rest = self.text.strip_prefix(ID)?;
            let (id, rest) = rest.split_at_checked(64)?;
            let (pubkey, rest) = rest.strip_prefix(PUBKEY)?.split_at_checked(64)?;
            let rest = rest.strip_prefix(CREATED_AT)?.strip_suffix(END)?;
            let (middle, signature) = rest.split_at_checked(rest.len().checked_sub(128)?)?;
            let middle = middle.strip_suffix(SIGNATURE)?;
            let id: [u8; 32] = hex::decode(id.as_bytes()).ok()?;
            let key = Key { created_at: created_at(middle)?, id: EventId::from_bytes(id) };
            (key == self.key).then_some(())?;
            out.extend_from_slice(&id);
            out.extend_from_slice(&hex::decode::<32>(pubkey.as_bytes()).ok()?);
            out.extend_from_slice(&hex::decode::<64>(signature.as_bytes()).ok()?);
            push_bytes(middle.as_bytes(), out);
            Some(())
        };
        packed().is_some()
    }

    /// Reads what [`pack`](Self::pack) wrote. The id and the JSON between the hex parts are believed. Allocates no more
    /// than a small multiple of what it is given.
    pub(crate) fn unpack(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let expires_at = from.number()?.checked_sub(1).map(u64::cast_signed);
        let id = EventId::from_bytes(from.array()?);
        let pubkey: [u8; 32] = from.array()?;
        let signature: [u8; 64] = from.array()?;
        let middle = from.text()?;
        let created_at = created_at(middle).ok_or(Damaged)?;
        let mut text = String::with_capacity(FIXED_BYTES + middle.len());
        text.push_str(ID);
        id.push_hex(&mut text);
        text.push_str(PUBKEY);
        hex::push(&pubkey, &mut text);
        text.push_str(CREATED_AT);
        text.push_str(middle);
        text.push_str(SIGNATURE);
        hex::push(&signature, &mut text);
        text.push_str(END);
        Ok(Self { key: Key { created_at, id }, expires_at, text: text.into() })
    }
}

/// What a text has beside its middle.
const FIXED_BYTES: usize = ID.len() + PUBKEY.len() + CREATED_AT.len() + SIGNATURE.len() + END.len() + 64 + 64 + 128;

/// The number that a middle begins with.
fn created_at(middle: &str) -> Option<Timestamp> {
    middle.split_once(',')?.0.parse().ok()
}
