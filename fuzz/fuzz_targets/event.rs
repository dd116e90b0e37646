//! Whatever the bytes: reading an event never panics, and what is read is a fixed point of reading and writing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::types::Event;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let checked = Event::parse(text);
    // The id is believed here, so that the fuzzer does not have to find SHA-256 collisions.
    let Ok(event) = Event::from_stored(text) else {
        assert!(checked.is_err(), "stricter with our own texts than with a client's");
        return;
    };
    let again = Event::from_stored(event.text()).expect("a canonical text is an event");
    assert_eq!(format!("{event:?}"), format!("{again:?}"));
    if let Ok(checked) = checked {
        assert_eq!(checked.text(), event.text());
        assert_eq!(Event::parse(checked.text()).expect("the id still holds").id(), checked.id());
    }

    // A general JSON library reads the same out of it.
    let value: Value = serde_json::from_str(event.text()).expect("a canonical text is JSON");
    assert_eq!(value["id"], event.id().to_hex());
    assert_eq!(value["pubkey"], event.pubkey().to_hex());
    assert_eq!(value["content"], event.content());
    let tags: Vec<Vec<String>> = serde_json::from_value(value["tags"].clone()).expect("tags are lists of strings");
    assert_eq!(tags.len(), event.tag_count() as usize);

    // With its right id, it passes the check.
    let signature = *event.signature();
    let built = Event::build(event.pubkey(), event.created_at(), event.kind(), &tags, &event.content(), |_| signature);
    let parsed = Event::parse(built.text()).expect("what is built parses");
    assert_eq!(format!("{built:?}"), format!("{parsed:?}"));
});
