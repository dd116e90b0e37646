//! Random events: what is built parses to itself, and the `nostr` crate agrees.

use super::*;
use nostr::prelude as theirs;
use nostr::prelude::FinalizeEvent;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    // Any characters, with those that JSON and NIP-01 treat specially made likely.
    let special = prop::sample::select(vec![
        '"', '\\', '/', '\n', '\r', '\t', '\u{8}', '\u{c}', '\u{7f}', '\u{2028}', 'u', '0', '🐦',
    ]);
    prop::collection::vec(prop_oneof![special, any::<char>()], 0..40).prop_map(String::from_iter)
}

/// Without the control characters that NIP-01 and `JSON.stringify` hash differently.
fn plain_text() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace(|c: char| c < ' ' && !"\n\r\t\u{8}\u{c}".contains(c), "?"))
}

fn tags(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Vec<String>>> {
    let name = prop::sample::select(vec!["e", "p", "d", "T", "-", "title", "nonce", "expiration"]);
    let tag = (name, prop::collection::vec(text, 0..4))
        .prop_map(|(name, values)| std::iter::once(name.to_owned()).chain(values).collect());
    prop::collection::vec(tag, 0..6)
}

proptest! {
    #[test]
    fn packed_unpacks_to_itself(
        key in any::<[u8; 32]>(), at in 0..=i64::MAX, kind: u16, tags in tags(text()), content in text(), byte: u8,
    ) {
        let built = Event::build(PublicKey::from_bytes(key), at, Kind(kind), &tags, &content, |_| [byte; 64]);
        let mut packed = Vec::new();
        built.pack(&mut packed);
        let unpacked = Event::unpack(&packed).unwrap();
        prop_assert_eq!(format!("{unpacked:?}"), format!("{built:?}"));
        // No beginning of it is an event, nor is anything longer.
        for end in 0..packed.len() {
            prop_assert!(Event::unpack(&packed[..end]).is_err());
        }
        packed.push(0);
        prop_assert!(Event::unpack(&packed).is_err());
    }

    #[test]
    fn damaged_bytes_are_an_error_or_an_event_but_never_a_panic(
        tags in tags(text()), content in text(), damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let built = Event::build(PublicKey::from_bytes([7; 32]), 1, Kind(1), &tags, &content, |_| [1; 64]);
        let mut packed = Vec::new();
        built.pack(&mut packed);
        for (at, byte) in damage {
            let at = at % packed.len();
            packed[at] = byte;
        }
        if let Ok(event) = Event::unpack(&packed) {
            let values: usize = event.tags().iter().map(|tag| tag.value.len()).sum();
            prop_assert!(values <= 2 * packed.len(), "more came out than went in");
        }
    }
}

proptest! {
    #[test]
    fn built_parses_to_itself(
        key in any::<[u8; 32]>(), at in 0..=i64::MAX, kind: u16, tags in tags(text()), content in text(), byte: u8,
    ) {
        let built = Event::build(PublicKey::from_bytes(key), at, Kind(kind), &tags, &content, |_| [byte; 64]);
        let parsed = Event::parse(built.text()).unwrap();
        prop_assert_eq!(format!("{parsed:?}"), format!("{built:?}"));
        prop_assert_eq!(parsed.content(), content);
        // A general JSON library reads the same values out of the text.
        let value: serde_json::Value = serde_json::from_str(built.text()).unwrap();
        prop_assert_eq!(&value["tags"], &serde_json::to_value(&tags).unwrap());
        // And what it writes, in another order of keys and with other escapes, is the same event.
        let other = value.to_string().replace('/', "\\/");
        let again = Event::parse(&other).unwrap();
        prop_assert_eq!(again.text(), built.text());
    }

    #[test]
    fn the_nostr_crate_agrees(
        at in 0..=u32::MAX, kind: u16, tags in tags(plain_text()), content in plain_text(),
    ) {
        let keys = theirs::Keys::generate();
        let event = theirs::EventBuilder::new(theirs::Kind::from(kind), content.clone())
            .tags(tags.iter().map(|tag| theirs::Tag::parse(tag.iter().cloned()).unwrap()))
            .custom_created_at(theirs::Timestamp::from_secs(at.into()))
            .finalize(&keys)
            .unwrap();
        let ours = Event::parse(&serde_json::to_string(&event).unwrap()).unwrap();
        prop_assert_eq!(ours.id().to_hex(), event.id.to_hex());
        prop_assert_eq!(ours.pubkey().to_hex(), event.pubkey.to_hex());
        prop_assert_eq!(ours.created_at(), i64::from(at));
        prop_assert_eq!(ours.kind().0, kind);
        prop_assert_eq!(ours.content(), content);
        prop_assert_eq!(ours.signature(), event.sig.as_bytes());
        let back: theirs::Event = serde_json::from_str(ours.text()).unwrap();
        back.verify().unwrap();
        prop_assert_eq!(back, event);
    }
}
