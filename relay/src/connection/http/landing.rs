//! The page for a person who opens the relay's address in a browser: the information document (NIP-11) in words, and
//! how to connect. One page that loads nothing else and runs no script.

use crate::message::SUPPORTED_NIPS;
use serde_json::Value;

const PAGE: &str = include_str!("../../../assets/landing.html");

/// The page's content security policy: no script, nothing from elsewhere.
pub(super) const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page for an information `document` and the relay's `address`, where it is known.
pub(super) fn page(document: &[u8], address: Option<&str>) -> String {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    let text = |key: &str| document.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let description = text("description").unwrap_or("This is a Nostr relay.");
    let nips = document.get("supported_nips").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64);
    let nip = |number: u64| {
        let known = SUPPORTED_NIPS.iter().find(|(known, _)| u64::from(*known) == number);
        let words = known.map_or("", |(_, words)| words);
        let separator = if words.is_empty() { "" } else { ": " };
        format!("<li>NIP-{number:02}{separator}{words}</li>\n")
    };
    let values = [
        ("name", escaped(text("name").unwrap_or("Skein"))),
        ("description", escaped(description)),
        ("address", escaped(address.unwrap_or("wss://, then the name in your address bar"))),
        ("facts", facts(&document).iter().map(|fact| format!("<li>{}</li>\n", escaped(fact))).collect()),
        ("nips", nips.map(nip).collect()),
        ("version", escaped(text("version").unwrap_or_default())),
    ];
    // In one pass over the template, so that a value that contains `{{name}}` is not replaced in turn.
    let mut page = String::with_capacity(PAGE.len() + 1_024);
    let mut pieces = PAGE.split("{{");
    page.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (key, rest) = piece.split_once("}}").unwrap_or(("", piece));
        page.push_str(values.iter().find(|(known, _)| *known == key).map_or("", |(_, value)| value));
        page.push_str(rest);
    }
    page
}

/// The limits and rules of the document, each as a sentence.
fn facts(document: &Value) -> Vec<String> {
    let limitation = document.get("limitation").cloned().unwrap_or_default();
    let number = |key: &str| limitation.get(key).and_then(Value::as_u64).filter(|number| *number > 0);
    let is = |key: &str| limitation.get(key).and_then(Value::as_bool).unwrap_or(false);
    let text = |key: &str| document.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut facts = Vec::new();
    let mut fact = |fact: Option<String>| facts.extend(fact);
    fact(Some(match (is("auth_required"), is("restricted_writes")) {
        (true, _) => "Reading and publishing need a client that proves who you are.".to_owned(),
        (false, true) => "Anyone may read; not everyone may publish everything.".to_owned(),
        (false, false) => "Anyone may read and publish.".to_owned(),
    }));
    fact(number("min_pow_difficulty").map(|bits| format!("A note must show {bits} bits of work.")));
    fact(number("max_message_length").map(|bytes| format!("A message may have up to {} KiB.", bytes / 1024)));
    let subscriptions = number("max_subscriptions").zip(number("max_filters"));
    fact(subscriptions.map(|(subscriptions, filters)| {
        format!("A connection may hold {subscriptions} subscriptions, each of up to {filters} filters.")
    }));
    let limits = number("max_limit").zip(number("default_limit"));
    fact(limits.map(|(most, usual)| {
        format!("A filter gets up to {most} stored notes, and {usual} where it does not say how many.")
    }));
    fact(
        number("created_at_lower_limit").map(|seconds| format!("A note may be at most {} hours old.", seconds / 3600)),
    );
    fact(text("contact").map(|contact| format!("The operator is reached at {contact}.")));
    fact(text("pubkey").map(|key| format!("The operator's public key is {key}.")));
    fact(text("terms_of_service").map(|terms| format!("The terms are at {terms}.")));
    facts
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_document_in_words() {
        let document = br#"{"name":"<b>{{address}}","description":"for \"us\"","contact":"mailto:a@example.com",
            "supported_nips":[1,42,999],"version":"1.2.3","limitation":{"max_message_length":131072,"max_limit":5000,
            "default_limit":500,"auth_required":false,"restricted_writes":true}}"#;
        let page = page(document, Some("wss://relay.example"));
        for words in [
            "<h1>&lt;b&gt;{{address}}</h1>",
            "for &quot;us&quot;",
            ">wss://relay.example<",
            "Anyone may read; not everyone may publish everything.",
            "up to 128 KiB",
            "up to 5000 stored notes",
            "mailto:a@example.com",
            "<li>NIP-42: clients that prove",
            "<li>NIP-999</li>",
            "Skein 1.2.3",
        ] {
            assert!(page.contains(words), "{words} in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("src="));
    }

    #[test]
    fn a_document_that_says_nothing_makes_a_page() {
        assert!(page(b"", None).contains("This is a Nostr relay."));
    }
}
