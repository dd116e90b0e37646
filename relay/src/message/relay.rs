//! What the relay says. Events are spliced, never encoded again: their text is canonical JSON already.

use super::words;
use crate::types::json::{push_string, quoted_len};
use crate::types::{Refusal, Reply, ReplyId, SubscriptionId, Verdict};
use std::fmt::Write;

/// `["EVENT",<id>,<text>]`, in one allocation of exactly the right size. `text` is a canonical event.
pub fn event(subscription: &SubscriptionId, text: &str) -> String {
    let mut out = String::with_capacity(event_len(subscription, text));
    push_event(subscription, text, &mut out);
    out
}

/// Appends what [`event`] gives.
pub fn push_event(subscription: &SubscriptionId, text: &str, out: &mut String) {
    out.reserve(event_len(subscription, text));
    out.push_str("[\"EVENT\",");
    push_string(&subscription.0, out);
    out.push(',');
    out.push_str(text);
    out.push(']');
}

fn event_len(subscription: &SubscriptionId, text: &str) -> usize {
    "[\"EVENT\",,]".len() + quoted_len(&subscription.0) + text.len()
}

/// Any other message: OK, EOSE, CLOSED, COUNT, NOTICE, AUTH.
pub fn reply(reply: &Reply) -> String {
    let mut out = String::with_capacity(128);
    match reply {
        Reply::Ok { id, verdict } => {
            out.push_str("[\"OK\",\"");
            if let ReplyId::Id(id) = id {
                id.push_hex(&mut out);
            }
            out.push_str("\",");
            push_verdict(verdict, &mut out);
        }
        Reply::Eose(id, hints) => {
            out.push_str("[\"EOSE\",");
            push_string(&id.0, &mut out);
            // Without a hint the message has two elements: some clients take no third.
            for (at, hint) in hints.names().enumerate() {
                out.push_str(if at == 0 { ",[\"" } else { ",\"" });
                out.push_str(hint);
                out.push('"');
            }
            if hints.names().next().is_some() {
                out.push(']');
            }
        }
        Reply::Closed(id, refusal) => {
            out.push_str("[\"CLOSED\",");
            push_string(&id.0, &mut out);
            out.push(',');
            push_refusal(refusal, &mut out);
        }
        Reply::Count(id, count) => {
            out.push_str("[\"COUNT\",");
            push_string(&id.0, &mut out);
            // Writing to a String cannot fail.
            let _ = write!(out, ",{{\"count\":{count}}}");
        }
        Reply::Notice(refusal) => {
            out.push_str("[\"NOTICE\",");
            push_refusal(refusal, &mut out);
        }
        Reply::Auth(challenge) => {
            out.push_str("[\"AUTH\",");
            push_string(challenge, &mut out);
        }
    }
    out.push(']');
    out
}

/// The third and fourth element of an OK.
fn push_verdict(verdict: &Verdict, out: &mut String) {
    match verdict {
        Verdict::Accepted => out.push_str("true,\"\""),
        Verdict::Duplicate => {
            out.push_str("true,");
            push_string(words::DUPLICATE, out);
        }
        Verdict::Refused(refusal) => {
            out.push_str("false,");
            push_refusal(refusal, out);
        }
    }
}

fn push_refusal(refusal: &Refusal, out: &mut String) {
    push_string(&words::words(refusal), out);
}
