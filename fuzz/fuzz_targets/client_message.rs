//! Whatever the bytes: a message is understood within its limits, or gets the one reply that it is owed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::message::{self, ClientMessage, ParseLimits};
use relay::types::{Event, Filter, Reply, SubscriptionId, Verdict};
use serde_json::Value;

const LIMITS: ParseLimits =
    ParseLimits { max_filters: 4, max_filter_values: 16, max_req_bytes: 1 << 16, max_subscription_id_chars: 64 };

fn check_id(id: &SubscriptionId) {
    assert!((1..=64).contains(&id.0.chars().count()));
    let spliced = message::event(id, "{}");
    assert_eq!(spliced.len(), spliced.capacity());
    let value: Value = serde_json::from_str(&spliced).expect("a spliced message is JSON");
    assert_eq!(value[1], &*id.0);
}

fn check_filters(filters: &[Filter]) {
    assert!(filters.len() <= LIMITS.max_filters);
    for filter in filters {
        assert!(!filter.is_impossible());
        assert_eq!(Filter::parse(&filter.to_json()).as_ref(), Ok(filter));
    }
}

/// A refused message is owed the reply of its verb, in valid JSON and of bounded length.
fn check_refusal(text: &str, reply: &Reply) {
    let json = message::reply(reply);
    assert!(json.len() < 4_000, "{json}");
    let sent: Value = serde_json::from_str(&json).expect("a reply is JSON");
    let verb = serde_json::from_str::<Value>(text).ok().and_then(|message| message[0].as_str().map(str::to_owned));
    match (verb.as_deref(), reply) {
        (Some("EVENT" | "AUTH"), Reply::Ok { verdict: Verdict::Refused(_), .. }) => assert_eq!(sent[2], false),
        (Some("REQ" | "COUNT"), Reply::Closed(..) | Reply::Notice(_)) => {}
        (None, _) | (Some(_), Reply::Notice(_)) => {}
        (Some(verb), reply) => panic!("{verb} is not answered by {reply:?}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match ClientMessage::parse(text, &LIMITS) {
        Ok(ClientMessage::Event(event) | ClientMessage::Auth(event)) => {
            assert_eq!(Event::parse(event.text()).expect("the id still holds").id(), event.id());
        }
        Ok(ClientMessage::Req(id, filters) | ClientMessage::Count(id, filters)) => {
            check_id(&id);
            check_filters(&filters);
        }
        Ok(ClientMessage::Close(id)) => check_id(&id),
        Err(reply) => check_refusal(text, &reply),
    }
});
