//! Reads a stored event's text without parsing it: in the canonical form every field has its place.

use crate::store::StoreError;
use crate::types::{Access, EventId, Filter, Key, Kind, KindClass, PublicKey, TagFilter, Timestamp};
use memchr::memmem;

/// `{"id":"`
const ID_AT: usize = 7;
/// `{"id":"<64>","pubkey":"`
const PUBKEY_AT: usize = ID_AT + 64 + 12;
/// `…","created_at":`
const CREATED_AT_AT: usize = PUBKEY_AT + 64 + 15;

/// The id and time of the event with this text.
pub(crate) fn key(text: &str) -> Result<Key, StoreError> {
    let id = text.as_bytes().get(ID_AT..ID_AT + 64).and_then(|hex| EventId::from_hex(hex).ok());
    let digits = text.get(CREATED_AT_AT..).and_then(|rest| rest.split(',').next());
    match (id, digits.and_then(|digits| digits.parse::<Timestamp>().ok())) {
        (Some(id), Some(created_at)) => Ok(Key { created_at, id }),
        _ => Err(StoreError::Damaged(format!("no event: {}", text.chars().take(200).collect::<String>()))),
    }
}

/// The author of the event with this text.
pub(crate) fn pubkey(text: &str) -> Option<PublicKey> {
    PublicKey::from_hex(text.as_bytes().get(PUBKEY_AT..PUBKEY_AT + 64)?).ok()
}

/// The kind of the event with this text.
pub(crate) fn kind(text: &str) -> Option<Kind> {
    let (_, rest) = text.get(CREATED_AT_AT..)?.split_once(",\"kind\":")?;
    rest.split(',').next()?.parse().ok().map(Kind)
}

/// True when the event with this text meets those conditions of `filter` that the indexes know as hashes only.
pub(crate) fn confirms(text: &str, key: Key, filter: &Filter) -> bool {
    filter.ids.as_ref().is_none_or(|ids| ids.binary_search(&key.id).is_ok())
        && filter
            .authors
            .as_ref()
            .is_none_or(|authors| pubkey(text).is_some_and(|pubkey| authors.binary_search(&pubkey).is_ok()))
        && filter.tags.iter().all(|condition| has_tag(text, condition))
}

/// True when the event with this text has a tag that satisfies `condition`, or is an addressable event without a `d`
/// tag, which counts as having an empty one (see [`Event::tags`](crate::types::Event::tags)).
///
/// The bytes `["x","` occur at a tag only. Inside a string a quotation mark is escaped, so the first one here is
/// structural. It either ends a string, and then `,` `]` `}` or `:` would follow it, or begins one right after a
/// structural `[`; and the only arrays of an event are `tags` and those inside it.
fn has_tag(text: &str, condition: &TagFilter) -> bool {
    let opening = [b'[', b'"', condition.letter, b'"', b',', b'"'];
    let mut found = memmem::find_iter(text.as_bytes(), &opening).peekable();
    if condition.letter == b'd' && found.peek().is_none() {
        let is_addressable = kind(text).is_some_and(|kind| kind.class() == KindClass::Addressable);
        return is_addressable && condition.values.first().is_some_and(|value| value.is_empty());
    }
    found.any(|at| {
        let value = text.get(at + opening.len()..).unwrap_or_default();
        match memchr::memchr2(b'"', b'\\', value.as_bytes()) {
            Some(end) if value.as_bytes().get(end) == Some(&b'"') => {
                let value = value.get(..end).unwrap_or_default();
                condition.values.binary_search_by(|wanted| (**wanted).cmp(value)).is_ok()
            }
            // The value has an escape: parse it.
            _ => {
                let quoted = text.get(at + opening.len() - 1..).unwrap_or_default();
                let mut reader = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
                reader
                    .next()
                    .and_then(Result::ok)
                    .is_some_and(|value| condition.values.binary_search_by(|wanted| (**wanted).cmp(&*value)).is_ok())
            }
        }
    })
}

/// True when the event with this text has the tag `["p","<reader>"…]`.
pub(crate) fn names_recipient(text: &str, reader: &PublicKey) -> bool {
    memmem::find(text.as_bytes(), format!("[\"p\",\"{reader}\"").as_bytes()).is_some()
}

/// Rechecks a reader's rights to the event with this text, as far as a statement compared them by hash. For a reader
/// who has not authenticated the statement compared the kind itself.
pub(crate) fn may_read(text: &str, access: &Access, filter: &Filter) -> bool {
    if access.authenticated.is_empty() || access.unrestricted(filter) {
        return true;
    }
    let Some(kind) = kind(text).filter(|kind| access.private_kinds.contains(*kind)) else { return true };
    let (to_author, to_recipients) =
        (access.private_kinds.serves_authors(kind), access.private_kinds.serves_recipients(kind));
    access.authenticated.iter().any(|reader| {
        (to_author && pubkey(text).as_ref() == Some(reader)) || (to_recipients && names_recipient(text, reader))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::types::Event;

    #[test]
    fn a_text_tells_what_its_event_does() {
        let author = PublicKey::from_bytes([0xab; 32]);
        let values = ["", "x", "a\"b", "\\", "é\n", "[\"t\",\"no\"", "\",\"t\",\""];
        for value in values {
            let tags = [vec!["t".into(), value.into(), "z".into()], vec!["tt".into(), "[\"t\",\"y\"]".into()]];
            let event = Event::build(author, 77, Kind(1), &tags, "[\"t\",\"w\"] \"],[\"t\",\"v\"]", |_| [0; 64]);
            let found = key(event.text()).unwrap();
            assert_eq!((found.id, found.created_at, pubkey(event.text())), (event.id(), 77, Some(author)));
            assert_eq!(kind(event.text()), Some(Kind(1)));
            for asked in values.iter().chain(&["y", "w", "v", "no", "z"]) {
                let filter = Filter {
                    tags: [TagFilter { letter: b't', values: [Box::from(*asked)].into() }].into(),
                    ..Filter::default()
                };
                assert_eq!(confirms(event.text(), found, &filter), filter.matches(&event), "{value:?} {asked:?}");
            }
        }
        assert!(key("{}").is_err() && pubkey("").is_none());
        for (kind, tags) in [(30_023, &[][..]), (30_023, &["d"]), (30_023, &["d", ""]), (30_023, &["d", "x"]), (1, &[])]
        {
            let tags: Vec<Vec<String>> = vec![tags.iter().map(ToString::to_string).collect()];
            let event = Event::build(author, 77, Kind(kind), &tags, "[\"d\",\"\"]", |_| [0; 64]);
            for asked in [&["", "y"][..], &["x", "y"], &["y"]] {
                let values = asked.iter().map(|value| Box::from(*value)).collect();
                let filter = Filter { tags: [TagFilter { letter: b'd', values }].into(), ..Filter::default() };
                let confirmed = confirms(event.text(), key(event.text()).unwrap(), &filter);
                assert_eq!(confirmed, filter.matches(&event), "{tags:?} {asked:?}");
            }
        }
    }
}
