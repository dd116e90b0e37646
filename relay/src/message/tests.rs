use super::*;
use crate::types::{Event, EventId, Kind, PublicKey, Refusal, Reply, ReplyId, SubscriptionId, Verdict};

const LIMITS: ParseLimits = ParseLimits { max_filters: 3, max_filter_values: 5, max_subscription_id_chars: 64 };

fn parse(text: &str) -> Result<ClientMessage, Reply> {
    ClientMessage::parse(text, &LIMITS)
}

/// What is sent back for a message that is refused.
fn answer(text: &str) -> String {
    match parse(text) {
        Ok(message) => panic!("accepted {text:.200}: {message:?}"),
        Err(refused) => reply(&refused),
    }
}

fn sample() -> Event {
    Event::build(PublicKey::from_bytes([1; 32]), 1_700_000_000, Kind(1), &[], "hello", |_| [2; 64])
}

fn id(text: &str) -> SubscriptionId {
    SubscriptionId(text.into())
}

#[test]
fn every_message_is_understood() {
    let event = sample();
    let text = format!(r#" ["EVENT" , {}] "#, event.text());
    assert!(matches!(parse(&text), Ok(ClientMessage::Event(parsed)) if parsed.text() == event.text()));
    let text = format!(r#"["AUTH",{}]"#, event.text());
    assert!(matches!(parse(&text), Ok(ClientMessage::Auth(parsed)) if parsed.id() == event.id()));
    assert!(matches!(parse(r#"["CLOSE","a"]"#), Ok(ClientMessage::Close(name)) if name == id("a")));
    let Ok(ClientMessage::Req(name, filters)) = parse(r#"["REQ","\u0061\"",{"kinds":[1]},{},{"limit":0}]"#) else {
        panic!("refused")
    };
    assert_eq!((name, filters.len(), filters[2].limit), (id("a\""), 3, Some(0)));
    assert!(matches!(parse(r#"["COUNT","c",{}]"#), Ok(ClientMessage::Count(_, filters)) if filters.len() == 1));
}

#[test]
fn a_subscription_id_is_counted_in_characters() {
    let longest = "🐦".repeat(64);
    assert!(matches!(parse(&format!(r#"["REQ","{longest}",{{}}]"#)), Ok(ClientMessage::Req(..))));
    let too_long = "🐦".repeat(65);
    let words = "invalid: a subscription id has 1 to 64 characters";
    assert_eq!(answer(&format!(r#"["REQ","{too_long}",{{}}]"#)), format!(r#"["CLOSED","{too_long}","{words}"]"#));
    assert_eq!(answer(r#"["REQ","",{}]"#), format!(r#"["CLOSED","","{words}"]"#));
    let absurd = "a".repeat(257);
    assert_eq!(answer(&format!(r#"["REQ","{absurd}",{{}}]"#)), format!(r#"["NOTICE","{words}"]"#));
    assert_eq!(answer(&format!(r#"["CLOSE","{too_long}"]"#)), format!(r#"["NOTICE","{words}"]"#));
}

#[test]
fn a_broken_event_gets_one_ok_with_its_id_where_there_is_one() {
    let event = sample();
    let good = event.text().to_string();
    let hex = event.id().to_hex();
    let named = format!(r#"["OK","{hex}",false,"invalid: "#);
    let unnamed = r#"["OK","",false,"invalid: "#;
    let cases = [
        (r#"["EVENT"]"#.to_owned(), unnamed),
        (r#"["EVENT""#.to_owned(), unnamed),
        (r#"["EVENT",null]"#.to_owned(), unnamed),
        (r#"["EVENT",[]]"#.to_owned(), unnamed),
        (r#"["EVENT",{}]"#.to_owned(), unnamed),
        (r#"["EVENT","text"]"#.to_owned(), unnamed),
        (r#"["AUTH","challenge"]"#.to_owned(), unnamed),
        (r#"["EVENT",{"id":[]}]"#.to_owned(), unnamed),
        (format!(r#"["EVENT",{{"id":"{}"}}]"#, hex.to_uppercase()), unnamed),
        (format!(r#"["EVENT",{{"id":"{hex}"}}]"#), &named),
        (format!(r#"["EVENT",{{"kind":1.0,"tags":[[{{}}]],"id":"{hex}","#), &named),
        (format!(r#"["EVENT",{{"id":"{hex}","id":"{hex}"}}]"#), &named),
        (format!(r#"["EVENT",{good},1]"#), &named),
        (format!(r#"["EVENT",{good}"#), &named),
        (format!(r#"["EVENT",{good}]]"#), &named),
        (format!(r#"["AUTH",{good},"more"]"#), &named),
        (format!(r#"["EVENT",{}]"#, good.replace("hello", "hallo")), &named),
    ];
    for (text, expected) in cases {
        let answer = answer(&text);
        assert!(answer.starts_with(expected), "{text}: {answer}");
    }
    let wrong_id = answer(&format!(r#"["EVENT",{}]"#, good.replace("hello", "hallo")));
    assert_eq!(wrong_id, format!(r#"["OK","{hex}",false,"invalid: the id is not the hash of the event"]"#));
}

#[test]
fn a_refused_req_or_count_gets_one_closed() {
    for verb in ["REQ", "COUNT"] {
        let cases = [
            (r#""s""#, "invalid: there is no filter"),
            (r#""s",[]"#, "invalid: "),
            (r#""s",1"#, "invalid: "),
            (r#""s",{},"x""#, "invalid: "),
            (r#""s",{"limit":-1}"#, "invalid: "),
            (r#""s",{"ids":[]}"#, "invalid: "),
            (r#""s",{"search":"x"}"#, "unsupported: unknown filter key `search`"),
            (r##""s",{},{"&t":["x"]}"##, "unsupported: unknown filter key `&t`"),
            (r#""s",{},{},{},{}"#, "invalid: more than 3 filters"),
            (r#""s",{"kinds":[1,2,3,4,5,6]}"#, "invalid: more than 5 values"),
            (r#""s",{"kinds":[1]"#, "invalid: "),
        ];
        for (rest, words) in cases {
            let answer = answer(&format!(r#"["{verb}",{rest}]"#));
            assert!(answer.starts_with(&format!(r#"["CLOSED","s","{words}"#)), "{rest}: {answer}");
        }
    }
}

#[test]
fn everything_else_gets_a_notice() {
    let cases = [
        "",
        " ",
        "hello",
        "{",
        "{}",
        "null",
        "1",
        "\"REQ\"",
        "[]",
        "[",
        "[1]",
        "[1,\"s\",{}]",
        "[null]",
        "[[\"REQ\",\"s\",{}]]",
        "[\"req\",\"s\",{}]",
        "[\"\"]",
        "[\"NEG-OPEN\",\"s\",{},\"61\"]",
        "[\"\\ud800\"]",
        "[\"REQ\"]",
        "[\"REQ\",1,{}]",
        "[\"COUNT\",{},{}]",
        "[\"CLOSE\"]",
        "[\"CLOSE\",1]",
        "[\"CLOSE\",\"\"]",
        "[\"CLOSE\",\"s\",1]",
        "[\"CLOSE\",\"s\"] x",
    ];
    for text in cases {
        let answer = answer(text);
        assert!(answer.starts_with("[\"NOTICE\",\""), "{text}: {answer}");
    }
    assert_eq!(answer(r#"["NEG-OPEN","s"]"#), r#"["NOTICE","unsupported: unknown message `NEG-OPEN`"]"#);
}

#[test]
fn nesting_a_million_deep_is_only_an_error() {
    let deep = "[".repeat(1_000_000);
    let closed = format!("{deep}{}", "]".repeat(1_000_000));
    for text in [
        deep.clone(),
        closed.clone(),
        format!("[\"EVENT\",{closed}]"),
        format!("[\"EVENT\",{{\"x\":{closed},\"tags\":{closed}}}]"),
        format!("[\"REQ\",\"s\",{{\"kinds\":{closed}}}]"),
        format!("[\"CLOSE\",\"s\",{closed}]"),
        "{\"a\":".repeat(1_000_000),
    ] {
        assert!(answer(&text).len() < 500);
    }
    // Where nobody looks, depth is harmless.
    let event = sample().text().replacen('{', &format!("{{\"x\":{closed},"), 1);
    assert!(matches!(parse(&format!("[\"EVENT\",{event}]")), Ok(ClientMessage::Event(_))));
}

#[test]
fn events_are_spliced_with_exact_capacity() {
    let event_text = sample().text().to_string();
    for name in ["sub", "quote \" and \\ and \n and \u{1} and 🐦"] {
        let message = event(&id(name), &event_text);
        assert_eq!(message.len(), message.capacity());
        let parsed: (String, String, serde_json::Value) = serde_json::from_str(&message).unwrap();
        assert_eq!((&*parsed.0, &*parsed.1), ("EVENT", name));
        assert!(message.ends_with(&format!(",{event_text}]")));
    }
    let mut buffer = String::from("before ");
    push_event(&id("s"), "{}", &mut buffer);
    assert_eq!(buffer, r#"before ["EVENT","s",{}]"#);
}

#[test]
fn replies_have_the_form_of_the_protocol() {
    let zero = EventId::from_bytes([0; 32]);
    let ok = |verdict| reply(&Reply::Ok { id: ReplyId::Id(zero), verdict });
    assert_eq!(ok(Verdict::Accepted), format!(r#"["OK","{zero}",true,""]"#));
    assert!(ok(Verdict::Duplicate).starts_with(&format!(r#"["OK","{zero}",true,"duplicate: "#)));
    assert!(ok(Verdict::Refused(Refusal::Deleted)).ends_with(r#",false,"blocked: this event was deleted"]"#));
    assert_eq!(reply(&Reply::Eose(id("a\"b"))), r#"["EOSE","a\"b"]"#);
    assert_eq!(reply(&Reply::Count(id("c"), 12)), r#"["COUNT","c",{"count":12}]"#);
    assert_eq!(reply(&Reply::Auth("x\"".into())), r#"["AUTH","x\""]"#);
    let refusal = Refusal::Invalid("line\nand \"quote\"".into());
    assert_eq!(reply(&Reply::Notice(refusal)), r#"["NOTICE","invalid: line\nand \"quote\""]"#);
}

#[test]
fn every_refusal_has_a_known_prefix_and_a_sentence() {
    use Refusal as R;
    let cases = [
        (R::Invalid("x".into()), "invalid"),
        (R::Unsupported("x".into()), "unsupported"),
        (R::WrongId, "invalid"),
        (R::WrongSignature, "invalid"),
        (R::MessageTooLarge { max_bytes: 1 }, "invalid"),
        (R::TooManyTags { max: 1 }, "invalid"),
        (R::ContentTooLong { max_chars: 1 }, "invalid"),
        (R::TooOld { max_age_seconds: 1 }, "invalid"),
        (R::TooNew { max_ahead_seconds: 1 }, "invalid"),
        (R::Expired { at: 1 }, "invalid"),
        (R::ProofOfWork { min_bits: 2, found_bits: 1 }, "pow"),
        (R::Superseded, "blocked"),
        (R::Deleted, "blocked"),
        (R::AuthorBlocked, "blocked"),
        (R::KindBlocked(Kind(1)), "blocked"),
        (R::ProtectedNeedsAuthentication, "auth-required"),
        (R::ProtectedNotAuthor, "restricted"),
        (R::ProtectedEmbedded, "blocked"),
        (R::WriteNeedsAuthentication, "auth-required"),
        (R::ReadNeedsAuthentication, "auth-required"),
        (R::PrivateNeedsAuthentication, "auth-required"),
        (R::AuthenticationAsEvent, "invalid"),
        (R::WrongAuthentication("x".into()), "invalid"),
        (R::RateLimited, "rate-limited"),
        (R::TooManySubscriptions { max: 1 }, "rate-limited"),
        (R::TooSlow, "error"),
        (R::Overloaded, "error"),
        (R::Timeout, "error"),
        (R::StoreFailed, "error"),
        (R::DiskFull, "error"),
        (R::DatabaseLocked, "error"),
        (R::ShuttingDown, "error"),
    ];
    let mut reasons = std::collections::HashSet::new();
    for (refusal, prefix) in cases {
        let words = words::words(&refusal);
        let sentence = words.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(": "));
        assert!(sentence.is_some_and(|sentence| !sentence.is_empty()), "{refusal:?}: {words}");
        assert!(reasons.insert(refusal.reason()), "{refusal:?} shares its label");
    }
}
