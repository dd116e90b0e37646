//! An event before it is signed.

use super::author::hex_of;
use sha2::{Digest, Sha256};

/// An event with its id and without a signature.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The SHA-256 of the canonical serialisation (NIP-01).
    pub id: [u8; 32],
    /// The author's rank.
    pub author: u32,
    /// The kind.
    pub kind: u16,
    /// Unix seconds.
    pub created_at: u64,
    /// The ranks of the authors that its `p` tags name, in their order.
    pub mentions: Vec<u32>,
    /// The canonical JSON up to the signature's opening quote.
    head: String,
}

/// The fields of an event; tags and content are already JSON.
pub(super) struct Parts<'a> {
    pub(super) author: u32,
    pub(super) pubkey: &'a str,
    pub(super) created_at: u64,
    pub(super) kind: u16,
    /// A JSON array.
    pub(super) tags: &'a str,
    /// A JSON string with its quotes.
    pub(super) content: &'a str,
}

impl Draft {
    pub(super) fn new(parts: &Parts<'_>) -> Self {
        let Parts { author, pubkey, created_at, kind, tags, content } = *parts;
        let id: [u8; 32] = Sha256::digest(format!("[0,\"{pubkey}\",{created_at},{kind},{tags},{content}]")).into();
        let hex = hex_text(&id);
        let head = format!(
            "{{\"id\":\"{hex}\",\"pubkey\":\"{pubkey}\",\"created_at\":{created_at},\"kind\":{kind},\
             \"tags\":{tags},\"content\":{content},\"sig\":\""
        );
        Self { id, author, kind, created_at, mentions: Vec::new(), head }
    }

    /// The event's JSON with `signature`.
    pub fn with_signature(self, signature: &[u8; 64]) -> String {
        let hex: [u8; 128] = hex_of(signature);
        let mut text = self.head;
        text.push_str(std::str::from_utf8(&hex).unwrap_or_default());
        text.push_str("\"}");
        text
    }

    /// The event's JSON with the id, twice, as signature: it has the right length but is not valid.
    pub fn with_made_up_signature(self) -> String {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&self.id);
        signature[32..].copy_from_slice(&self.id);
        self.with_signature(&signature)
    }
}

/// The hex of an id.
pub(crate) fn hex_text(id: &[u8; 32]) -> String {
    let hex: [u8; 64] = hex_of(id);
    std::str::from_utf8(&hex).unwrap_or_default().to_owned()
}
