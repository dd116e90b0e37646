//! What a relay looks at in an event's tags, gathered while their canonical text is written.

use super::Tag;
use crate::types::{Timestamp, json};

/// The tags of one event: their canonical text and what is known from them.
pub(super) struct Tags {
    /// The canonical JSON array.
    pub(super) text: String,
    pub(super) indexed: Vec<Tag>,
    pub(super) count: u32,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) malformed_expiration: bool,
    pub(super) protected: bool,
    pub(super) committed_pow: Option<u8>,
    pub(super) seen_nonce: bool,
    pub(super) elements: usize,
}

impl Tags {
    /// No tags yet; room for `capacity` bytes of text.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity);
        text.push('[');
        Self {
            text,
            indexed: Vec::new(),
            count: 0,
            expires_at: None,
            malformed_expiration: false,
            protected: false,
            committed_pow: None,
            seen_nonce: false,
            elements: 0,
        }
    }

    /// Begins a tag.
    pub(super) fn open(&mut self) {
        self.text.push_str(if self.count == 0 { "[" } else { ",[" });
        self.elements = 0;
    }

    /// Appends an element to the open tag; `clean` says that it holds nothing to escape.
    pub(super) fn element(&mut self, element: &str, clean: bool) {
        if self.elements > 0 {
            self.text.push(',');
        }
        self.elements += 1;
        let push = if clean { json::push_clean_string } else { json::push_string };
        push(element, &mut self.text);
    }

    /// Ends the tag, whose first three elements are repeated here. Says what the tag means.
    pub(super) fn close(&mut self, name: &str, value: Option<&str>, third: Option<&str>) {
        self.text.push(']');
        self.count = self.count.saturating_add(1);
        match (name.as_bytes(), value) {
            ([letter @ (b'a'..=b'z' | b'A'..=b'Z')], Some(value)) => {
                self.indexed.push(Tag { letter: *letter, value: value.into() });
            }
            (b"-", _) => self.protected = true,
            (b"expiration", None | Some("")) => {}
            (b"expiration", Some(value)) => match decimal(value) {
                Some(at) => self.expires_at = Some(self.expires_at.map_or(at, |earliest| earliest.min(at))),
                None => self.malformed_expiration = true,
            },
            (b"nonce", _) if !self.seen_nonce => {
                self.seen_nonce = true;
                self.committed_pow = third.and_then(decimal);
            }
            _ => {}
        }
    }

    /// Ends the array.
    pub(super) fn finish(&mut self) {
        self.text.push(']');
    }
}

/// A number of nothing but decimal digits.
fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
