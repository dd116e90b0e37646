use super::*;

fn sample(tags: &[Vec<String>], content: &str) -> Event {
    Event::build(PublicKey::from_bytes([0xab; 32]), 1_700_000_000, Kind(1), tags, content, |_| [0xcd; 64])
}

fn tag(elements: &[&str]) -> Vec<String> {
    elements.iter().map(ToString::to_string).collect()
}

#[test]
fn a_built_event_parses_to_itself() {
    let tags = [
        tag(&["e", "x", "wss://relay"]),
        tag(&["E"]),
        tag(&["title", "long name"]),
        tag(&["p", ""]),
        tag(&["d", "quote \" and \u{1} and \u{7f} and 🐦"]),
    ];
    let built = sample(&tags, "line\nbreak \\ \" \t\r\u{8}\u{c}\u{0}\u{1f}\u{7f}\u{2028} 🐦");
    let parsed = Event::parse(built.text()).unwrap();
    assert_eq!(format!("{parsed:?}"), format!("{built:?}"));
    assert_eq!(parsed.content(), "line\nbreak \\ \" \t\r\u{8}\u{c}\u{0}\u{1f}\u{7f}\u{2028} 🐦");
    assert_eq!(parsed.tag_count(), 5);
    let letters: Vec<u8> = parsed.tags().iter().map(|tag| tag.letter).collect();
    assert_eq!(letters, b"epd", "a tag without value or with a long name is not indexed");
    assert!(parsed.text().contains(r#""content":"line\nbreak \\ \" \t\r\b\f\u0000\u001f"#));
    assert_eq!(format!("{:?}", Event::from_stored(built.text()).unwrap()), format!("{built:?}"));
}

#[test]
fn order_of_keys_white_space_and_needless_escapes_do_not_matter() {
    let event = sample(&[tag(&["t", "a/b"])], "é");
    let text = format!(
        "  {{ \"sig\": \"{}\", \"content\" : \"\\u00e9\", \"extra\": {{\"id\":[1.5e3]}}, \"k\\u0069nd\": 1,\n\"tags\" : \
         [ [ \"t\" , \"a\\/b\" ] ], \"created_at\":1700000000, \"pubkey\":\"{}\", \"id\":\"{}\" }} ",
        "cd".repeat(64),
        event.pubkey(),
        event.id()
    );
    assert_eq!(Event::parse(&text).unwrap().text(), event.text());
}

#[test]
fn both_forms_of_hashing_control_characters_are_taken() {
    for content in ["bell \u{7}", "a\\u0007 only looks like one, \u{0} is one"] {
        let tags = [tag(&["t", "\u{1}\\"])];
        let stringify = sample(&tags, content);
        // NIP-01 to the letter: control characters verbatim.
        let escaped = |text: &str| text.replace('\\', "\\\\");
        let serialised = format!(
            "[0,\"{}\",1700000000,1,[[\"t\",\"{}\"]],\"{}\"]",
            stringify.pubkey(),
            escaped("\u{1}\\"),
            escaped(content)
        );
        let id = EventId::from_bytes(<sha2::Sha256 as sha2::Digest>::digest(serialised).into());
        assert_ne!(id, stringify.id());
        let verbatim = stringify.text().replace(&stringify.id().to_hex(), &id.to_hex());
        let parsed = Event::parse(&verbatim).unwrap();
        assert_eq!(&**parsed.text(), verbatim);
        assert_eq!(parsed.content(), content);
        assert_eq!(Event::parse(stringify.text()).unwrap().id(), stringify.id());
        let neither = verbatim.replace(&id.to_hex(), &"0".repeat(64));
        assert_eq!(Event::parse(&neither).unwrap_err(), EventError::WrongId(EventId::from_bytes([0; 32])));
    }
}
