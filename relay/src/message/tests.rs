use super::*;
use crate::types::{
    EoseHints, Event, EventId, Filter, Kind, PublicKey, Refusal, Reply, ReplyId, SubscriptionId, Verdict,
};

const LIMITS: ParseLimits = ParseLimits {
    max_filters: 3,
    max_filter_values: 5,
    and_tags: false,
    max_req_bytes: 1 << 20,
    max_subscription_id_chars: 64,
};

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
            (r#""s""#, "invalid: there is no filter in the message"),
            (r#""s",[]"#, "invalid: a filter must be an object"),
            (r#""s",1"#, "invalid: a filter must be an object"),
            (r#""s",{},"x""#, "invalid: a filter must be an object"),
            (r#""s",null"#, "invalid: a filter must be an object"),
            (r#""s",{"limit":-1}"#, "invalid: limit must be an integer, not negative"),
            (r#""s",{},{"kinds":[1.5]}"#, "invalid: kinds must be integers from 0 to 65535"),
            (r#""s",{"ids":[]},{"ids":1}"#, "invalid: ids must be a list of ids, each 64 lowercase hex characters"),
            (r#""s",{"search":"x"}"#, "unsupported: unknown filter key `search`"),
            (r##""s",{},{"&t":["x"]}"##, "unsupported: unknown filter key `&t`"),
            (r#""s",{},{},{},{}"#, "invalid: more than 3 filters"),
            (r#""s",{"ids":[]},{"ids":[]},{"ids":[]},{}"#, "invalid: more than 3 filters"),
            (r#""s",{"kinds":[1,2,3,4,5,6]}"#, "invalid: more than 5 values in one list"),
        ];
        for (rest, words) in cases {
            assert_eq!(answer(&format!(r#"["{verb}",{rest}]"#)), format!(r#"["CLOSED","s","{words}"]"#), "{rest}");
        }
        let cut = answer(&format!(r#"["{verb}","s",{{"kinds":[1]"#));
        assert_eq!(cut, r#"["CLOSED","s","invalid: the text ends too early to be JSON"]"#);
    }
}

#[test]
fn filters_that_no_event_can_match_are_left_out() {
    for verb in ["REQ", "COUNT"] {
        let filters = |rest: &str| match parse(&format!(r#"["{verb}","s",{rest}]"#)) {
            Ok(ClientMessage::Req(_, filters) | ClientMessage::Count(_, filters)) => filters,
            other => panic!("{rest}: {other:?}"),
        };
        assert_eq!(filters(r#"{"kinds":[99999],"limit":0}"#), []);
        assert_eq!(filters(r##"{"#a":[]},{"authors":[]},{"since":2,"until":1}"##), []);
        assert_eq!(filters(r##"{"#a":[]},{"kinds":[1]},{"ids":[]}"##), [Filter::parse(r#"{"kinds":[1]}"#).unwrap()]);
    }
}

#[test]
fn what_the_filters_of_one_message_cost_is_bounded() {
    let limits = ParseLimits { max_filters: 200, max_filter_values: usize::MAX, ..LIMITS };
    let req = |count: usize| {
        let filters: Vec<String> = (0..count).map(|n| format!(r##"{{"#t":["{n}"]}}"##)).collect();
        format!(r#"["REQ","s",{}]"#, filters.join(","))
    };
    let one = Filter::parse(r##"{"#t":["1"]}"##).unwrap().cost_bytes();
    let limits = ParseLimits { max_req_bytes: one * 10, ..limits };
    assert!(
        matches!(ClientMessage::parse(&req(10), &limits), Ok(ClientMessage::Req(_, filters)) if filters.len() == 10)
    );
    let refused = ClientMessage::parse(&req(11), &limits).unwrap_err();
    assert_eq!(
        reply(&refused),
        format!(
            r#"["CLOSED","s","invalid: the filters ask for too much at once: their values may cost {} bytes (limits.max_req_bytes)"]"#,
            one * 10
        )
    );
    // Many kinds in few bytes are many lists for the store and many places in the matcher.
    let kinds: Vec<String> = (0..60_000).map(|kind| kind.to_string()).collect();
    let all_kinds = format!(r#"["COUNT","s",{{"kinds":[{}]}}]"#, kinds.join(","));
    let limits = ParseLimits { max_req_bytes: 8 << 20, ..limits };
    assert!(matches!(ClientMessage::parse(&all_kinds, &limits), Err(Reply::Closed(_, Refusal::TooCostly { .. }))));
}

#[test]
fn everything_else_gets_a_notice() {
    let no_array = "invalid: a message must be an array that begins with a verb, such as \\\"REQ\\\"";
    let no_verb = "invalid: a message must begin with a verb, such as \\\"REQ\\\"";
    let early = "invalid: the text ends too early to be JSON";
    let no_id = "invalid: a subscription id must be a string";
    let cases = [
        ("", early),
        (" ", early),
        ("{", no_array),
        ("[", early),
        ("hello", "invalid: the text is not JSON at line 1 column 1: expected value"),
        ("{}", no_array),
        ("null", no_array),
        ("1", no_array),
        ("\"REQ\"", no_array),
        ("[]", no_verb),
        ("[1]", no_verb),
        ("[1,\"s\",{}]", no_verb),
        ("[null]", no_verb),
        ("[[\"REQ\",\"s\",{}]]", no_verb),
        ("[\"req\",\"s\",{}]", "unsupported: unknown message `req`"),
        ("[\"\"]", "unsupported: unknown message ``"),
        ("[\"PING\"]", "unsupported: unknown message `PING`"),
        ("[\"NEG-OPEN\",\"s\",{},\"61\"]", "unsupported: unknown message `NEG-OPEN`: there is no negentropy here"),
        ("[\"NEG-MSG\",\"s\",\"61\"]", "unsupported: unknown message `NEG-MSG`: there is no negentropy here"),
        ("[\"REQ\"]", "invalid: there is no subscription id in the message"),
        ("[\"REQ\",1,{}]", no_id),
        ("[\"COUNT\",{},{}]", no_id),
        ("[\"CLOSE\"]", "invalid: there is no subscription id in the message"),
        ("[\"CLOSE\",1]", no_id),
        ("[\"CLOSE\",null]", no_id),
        ("[\"CLOSE\",\"\"]", "invalid: a subscription id has 1 to 64 characters"),
        ("[\"CLOSE\",\"s\",1]", "invalid: CLOSE has two elements, and no more"),
        ("[\"CLOSE\",\"s\"] x", "invalid: the text is not JSON at line 1 column 15: trailing characters"),
    ];
    for (text, words) in cases {
        assert_eq!(answer(text), format!(r#"["NOTICE","{words}"]"#), "{text}");
    }
    assert!(answer("[\"\\ud800\"]").starts_with(r#"["NOTICE","invalid: the text is not JSON at line 1 column "#));
}

#[test]
fn a_broken_event_or_auth_is_told_why_in_words_for_a_person() {
    for verb in ["EVENT", "AUTH"] {
        let cases = [
            (String::new(), "invalid: there is no event in the message"),
            (",null".to_owned(), "invalid: an event must be an object"),
            (r#","text""#.to_owned(), "invalid: an event must be an object"),
            (",[1]".to_owned(), "invalid: an event must be an object"),
            (",7".to_owned(), "invalid: an event must be an object"),
            (",{}".to_owned(), "invalid: the event has no id"),
            (r#",{"id":7}"#.to_owned(), "invalid: id must be 64 lowercase hex characters"),
            (r#",{"kind":"1"}"#.to_owned(), "invalid: kind must be an integer from 0 to 65535"),
            (r#",{"kind":70000}"#.to_owned(), "invalid: kind must be an integer from 0 to 65535"),
            (r#",{"created_at":1.5}"#.to_owned(), "invalid: created_at must be an integer of seconds, not negative"),
            (
                r#",{"tags":[["t",1]]}"#.to_owned(),
                "invalid: tags must be a list of lists of strings, none of them empty",
            ),
            (r#",{"tags":"t"}"#.to_owned(), "invalid: tags must be a list of lists of strings, none of them empty"),
            (r#",{"content":{}}"#.to_owned(), "invalid: content must be a string"),
            (r#",{"sig":null}"#.to_owned(), "invalid: sig must be 128 lowercase hex characters"),
        ];
        for (rest, words) in cases {
            assert_eq!(answer(&format!(r#"["{verb}"{rest}]"#)), format!(r#"["OK","",false,"{words}"]"#), "{rest}");
        }
        let event = sample();
        let more = answer(&format!(r#"["{verb}",{},1]"#, event.text()));
        let words = format!("invalid: {verb} has two elements, and no more");
        assert_eq!(more, format!(r#"["OK","{}",false,"{words}"]"#, event.id()));
    }
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
    assert_eq!(reply(&Reply::Eose(id("a\"b"), EoseHints::default())), r#"["EOSE","a\"b"]"#);
    let hints = EoseHints { more: true, ..EoseHints::default() };
    assert_eq!(reply(&Reply::Eose(id("a"), hints)), r#"["EOSE","a",["more"]]"#);
    let hints = EoseHints { finish: true, auth: true, ..EoseHints::default() };
    assert_eq!(reply(&Reply::Eose(id("a"), hints)), r#"["EOSE","a",["auth","finish"]]"#);
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
        (R::TooCostly { max_bytes: 1 }, "invalid"),
        (R::TooManySubscriptions { max: 1 }, "rate-limited"),
        (R::SubscriptionsTooLarge { max_bytes: 1 }, "rate-limited"),
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
    // By these words clients tell a limit on subscriptions from one on the rate.
    for refusal in [R::TooManySubscriptions { max: 1 }, R::SubscriptionsTooLarge { max_bytes: 1 }] {
        assert!(words::words(&refusal).contains("too many subscriptions"));
    }
}
