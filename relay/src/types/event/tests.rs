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

/// The object of an event, each field as JSON text: one can be spoiled before it is put together and, where it can
/// still be hashed, given its right id.
fn object(spoil: impl Fn(&mut Vec<(&'static str, String)>)) -> String {
    let event = sample(&[], "hello");
    let mut fields = vec![
        ("id", format!("\"{}\"", event.id())),
        ("pubkey", format!("\"{}\"", event.pubkey())),
        ("created_at", "1700000000".to_owned()),
        ("kind", "1".to_owned()),
        ("tags", "[]".to_owned()),
        ("content", "\"hello\"".to_owned()),
        ("sig", format!("\"{}\"", "cd".repeat(64))),
    ];
    spoil(&mut fields);
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn set(field: &'static str, value: &str) -> String {
    object(|fields| fields.iter_mut().filter(|(key, _)| *key == field).for_each(|(_, old)| *old = value.to_owned()))
}

#[test]
fn the_object_that_the_bad_ones_are_made_of_is_good() {
    assert_eq!(Event::parse(&object(|_| ())).unwrap().text(), sample(&[], "hello").text());
}

#[test]
fn what_is_not_an_event_is_invalid_in_words_for_a_person() {
    let (a64, a63) = ("a".repeat(64), "a".repeat(63));
    let id = "id must be 64 lowercase hex characters";
    let pubkey = "pubkey must be 64 lowercase hex characters";
    let sig = "sig must be 128 lowercase hex characters";
    let kind = "kind must be an integer from 0 to 65535";
    let created_at = "created_at must be an integer of seconds, not negative";
    let tags = "tags must be a list of lists of strings, none of them empty";
    let content = "content must be a string";
    let sig127 = "c".repeat(127);
    let cases = [
        ("id", format!("\"{a63}\""), id),
        ("id", format!("\"{a64}a\""), id),
        ("id", format!("\"{}\"", a64.to_uppercase()), id),
        ("id", format!("\"{a63}g\""), id),
        ("id", format!("\"{a63}é\""), id),
        ("id", "null".into(), id),
        ("pubkey", format!("\"{}\"", a64.to_uppercase()), pubkey),
        ("pubkey", "\"npub1drvpzev3syqt0kjrls50050uzf25gehpz9vgdw08hvex7e0vgfeq0eseet\"".into(), pubkey),
        ("pubkey", format!("\"{a64}aa\""), pubkey),
        ("sig", format!("\"{sig127}\""), sig),
        ("sig", format!("\"{sig127}C\""), sig),
        ("sig", format!("\"{sig127}cc\""), sig),
        ("kind", "65536".into(), kind),
        ("kind", "1.0".into(), kind),
        ("kind", "1e0".into(), kind),
        ("kind", "-1".into(), kind),
        ("kind", "\"1\"".into(), kind),
        ("kind", "01".into(), "invalid number"),
        ("created_at", "-1".into(), created_at),
        ("created_at", "-0".into(), created_at),
        ("created_at", "1700000000.0".into(), created_at),
        ("created_at", "9223372036854775808".into(), created_at),
        ("created_at", "99999999999999999999".into(), created_at),
        ("created_at", "1e999".into(), "a number is too large"),
        ("created_at", "null".into(), created_at),
        ("tags", "[[]]".into(), tags),
        ("tags", "[[1]]".into(), tags),
        ("tags", "[\"t\"]".into(), tags),
        ("tags", "[[\"t\",[\"x\"]]]".into(), tags),
        ("tags", "[[\"t\",\"a\",null]]".into(), tags),
        ("tags", "{}".into(), tags),
        ("tags", "[[\"t\",\"\\udc00\"]]".into(), "hex escape"),
        ("content", "null".into(), content),
        ("content", "\"\\ud83d\"".into(), "hex escape"),
        ("content", "\"\\ud83d\\u0041\"".into(), "surrogate"),
        ("content", "\"\u{1}\"".into(), "control character"),
        ("content", "\"line\nbreak\"".into(), "control character"),
    ];
    for (field, value, word) in cases {
        match Event::parse(&set(field, &value)) {
            Err(EventError::Invalid(words)) if words.starts_with("the text is not JSON at line ") => {
                assert!(words.contains(word), "{field} {value}: {words}");
            }
            Err(EventError::Invalid(words)) => assert_eq!(words, word, "{field} {value}"),
            other => panic!("{field} {value}: {other:?}"),
        }
    }
}

#[test]
fn every_key_stands_there_once() {
    for (index, key) in ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"].into_iter().enumerate() {
        let missing = object(|fields| drop(fields.remove(index)));
        let doubled = object(|fields| fields.push(fields[index].clone()));
        for (json, expected) in
            [(missing, format!("the event has no {key}")), (doubled, format!("{key} is there twice"))]
        {
            assert_eq!(Event::parse(&json).unwrap_err(), EventError::Invalid(expected));
        }
    }
    let trailing = object(|_| ()) + "x";
    for json in ["", "null", "[]", "\"\"", "{}", "{\"id\"", &trailing] {
        assert!(matches!(Event::parse(json), Err(EventError::Invalid(_))), "{json}");
    }
}

#[test]
fn the_id_is_checked_unless_the_text_is_our_own() {
    let forged = set("content", "\"hallo\"");
    assert_eq!(Event::parse(&forged).unwrap_err(), EventError::WrongId(sample(&[], "hello").id()));
    assert_eq!(Event::from_stored(&forged).unwrap().content(), "hallo");
}

#[test]
fn great_events_are_read() {
    let many: Vec<_> = (0..10_000).map(|n| tag(&["t", &n.to_string()])).collect();
    assert_eq!(Event::parse(sample(&many, "").text()).unwrap().tag_count(), 10_000);
    let long = "é".repeat(500_000);
    let event = Event::parse(sample(&[tag(&["x", &long])], &long).text()).unwrap();
    assert_eq!(event.tag_values(b'x').next(), Some(&*long));
    assert_eq!(event.content_chars(), 500_000);
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert!(Event::parse(&object(|fields| fields.push(("x", deep.clone())))).is_ok());
    assert!(Event::parse(&set("tags", &deep)).is_err());
}

#[test]
fn special_tags_are_understood() {
    let of = |tags: &[&[&str]]| sample(&tags.iter().map(|elements| tag(elements)).collect::<Vec<_>>(), "");
    let expires = |value| of(&[&["expiration", value]]).expires_at();
    assert_eq!(expires("1700000001"), Some(1_700_000_001));
    assert_eq!(expires("0"), Some(0));
    for value in ["+1", "-1", "1.0", "1e3", " 1", " 5 ", "soon", "9223372036854775808"] {
        let event = of(&[&["expiration", value]]);
        assert_eq!((event.expires_at(), event.has_malformed_expiration()), (None, true), "{value}");
    }
    let several = of(&[&["expiration"], &["expiration", ""], &["expiration", "8"], &["expiration", "7"]]);
    assert_eq!((several.expires_at(), several.has_malformed_expiration()), (Some(7), false), "the earliest");
    assert!(of(&[&["expiration", "7"], &["expiration", "x"]]).has_malformed_expiration());
    assert_eq!(of(&[&["expiration", ""]]).expires_at(), None);
    let event = of(&[&["expiration", "7"]]);
    assert!(!event.is_expired(6) && event.is_expired(7));
    assert!(of(&[&["-"]]).is_protected() && !of(&[&["e", "-"]]).is_protected());
    let pow = |tags: &[&[&str]]| of(tags).committed_pow();
    assert_eq!(pow(&[&["nonce", "1", "21"], &["nonce", "1", "30"]]), Some(21));
    assert_eq!(pow(&[&["nonce", "1"], &["nonce", "1", "30"]]), None);
    assert_eq!(pow(&[&["nonce", "1", "256"]]), None);
    assert_eq!(of(&[&["d", "first"], &["d", "second"]]).identifier(), "first");
    assert_eq!(of(&[&["d"], &["e", "x"]]).identifier(), "");
}

/// Its identifier is the empty one, and it is found by that like one that says so.
#[test]
fn an_addressable_event_without_an_identifier_has_the_empty_one() {
    let d_tags = |kind, tags: &[&[&str]]| {
        let tags: Vec<_> = tags.iter().map(|elements| tag(elements)).collect();
        let built = Event::build(PublicKey::from_bytes([1; 32]), 1, Kind(kind), &tags, "", |_| [2; 64]);
        let mut packed = Vec::new();
        built.pack(&mut packed);
        let of = |event: &Event| event.tag_values(b'd').map(str::to_owned).collect::<Vec<_>>();
        let found = of(&built);
        assert_eq!(found, of(&Event::parse(built.text()).unwrap()));
        assert_eq!(found, of(&Event::from_stored(built.text()).unwrap()));
        assert_eq!(found, of(&Event::unpack(&packed).unwrap()));
        found
    };
    for kind in [30_000, 39_999] {
        assert_eq!(d_tags(kind, &[&["t", "x"]]), [""]);
        assert_eq!(d_tags(kind, &[&["d"]]), [""]);
        assert_eq!(d_tags(kind, &[&["d", ""]]), [""], "once");
        assert_eq!(d_tags(kind, &[&["d", "x"]]), ["x"]);
        assert_eq!(d_tags(kind, &[&["d"], &["d", "x"]]), ["x"], "the first that has a value");
    }
    for kind in [1, 10_002, 20_001, 29_999, 40_000] {
        assert_eq!(d_tags(kind, &[&["d"]]), [""; 0]);
    }
}
