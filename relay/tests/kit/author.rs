//! An author who signs events.

use nostr::key::Keys;
use relay::types::{Event, Kind, PublicKey, Timestamp, now};

/// A key, and events signed with it.
#[derive(Clone)]
pub struct Author(Keys);

impl Default for Author {
    fn default() -> Self {
        Self::new()
    }
}

impl Author {
    /// A new author.
    pub fn new() -> Self {
        Self(Keys::generate())
    }

    pub fn pubkey(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.public_key().to_bytes())
    }

    /// A text note of this second.
    pub fn note(&self, content: &str) -> Event {
        self.event(1, &[], content)
    }

    /// An event of this second.
    pub fn event(&self, kind: u16, tags: &[&[&str]], content: &str) -> Event {
        self.event_at(now(), kind, tags, content)
    }

    pub fn event_at(&self, created_at: Timestamp, kind: u16, tags: &[&[&str]], content: &str) -> Event {
        let tags: Vec<Vec<String>> = tags.iter().map(|tag| tag.iter().map(|part| part.to_string()).collect()).collect();
        Event::build(self.pubkey(), created_at, Kind(kind), &tags, content, |id| {
            *self.0.sign_schnorr(id.as_bytes()).as_bytes()
        })
    }

    /// The answer to a relay's challenge (NIP-42).
    pub fn auth(&self, challenge: &str, relay_url: &str) -> Event {
        self.event(22242, &[&["relay", relay_url], &["challenge", challenge]], "")
    }
}
