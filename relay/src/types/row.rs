//! A stored event as it is sent, and its place in the order of NIP-01.

use super::{Event, EventId, Timestamp};
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
