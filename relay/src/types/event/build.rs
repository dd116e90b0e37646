//! Events made here rather than parsed: for tests, benches and load tools.

use super::canonical::{Object, Scalars};
use super::tags::Tags;
use super::{Event, EventParts};
use crate::types::{EventId, Kind, PublicKey, Timestamp, json};

impl Event {
    /// Makes an event as a client would: `sign` gets the id and gives the signature. A negative `created_at` counts as
    /// 0, and a tag without elements is left out, for neither can be written. Control characters are hashed as
    /// `JSON.stringify` has them.
    pub fn build(
        pubkey: PublicKey,
        created_at: Timestamp,
        kind: Kind,
        tags: &[Vec<String>],
        content: &str,
        sign: impl FnOnce(&EventId) -> [u8; 64],
    ) -> Self {
        let scalars = Scalars { pubkey, created_at: created_at.max(0), kind };
        let tags = gather(tags);
        let write = |id, signature: &[u8; 64]| {
            let push_content = |out: &mut String| json::push_string(content, out);
            Object::write(id, scalars, &tags.text, content.len(), push_content, signature)
        };
        let id = write(EventId::from_bytes([0; 32]), &[0; 64]).hash();
        let signature = sign(&id);
        let object = write(id, &signature);
        EventParts::new(id, scalars, tags, content.chars().count(), signature, &object).into()
    }
}

fn gather(list: &[Vec<String>]) -> Tags {
    let mut tags = Tags::with_capacity(256);
    for tag in list {
        let Some(name) = tag.first() else { continue };
        tags.open();
        for element in tag {
            tags.element(element, false);
        }
        tags.close(name, tag.get(1).map(String::as_str), tag.get(2).map(String::as_str));
    }
    tags.finish();
    tags
}
