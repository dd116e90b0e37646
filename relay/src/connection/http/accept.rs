//! What a client would like to get: the `Accept` header (RFC 9110, 12.5.1).

use hyper::header::{ACCEPT, HeaderMap};

/// The most that a weight can be, in thousandths.
const MAX_WEIGHT: u16 = 1_000;

/// How much a client wants `media_type`, in thousandths; 0: not at all. Only ranges that name the type count, whatever
/// their parameters: `*/*`, which every HTTP client sends, asks for nothing special.
pub(super) fn weight_of(media_type: &str, headers: &HeaderMap) -> u16 {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let weights = values.flat_map(|value| value.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next()?.eq_ignore_ascii_case(media_type);
        let weight = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| parse_weight(value.trim()))
        });
        named.then(|| weight.unwrap_or(MAX_WEIGHT))
    });
    weights.max().unwrap_or(0)
}

/// A weight: 0 to 1 with at most three decimals. A malformed one counts as 0: the client may have meant a refusal.
fn parse_weight(text: &str) -> u16 {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    match whole {
        "0" => format!("{decimals:0<3}").parse().unwrap_or(0),
        "1" if decimals.bytes().all(|byte| byte == b'0') => MAX_WEIGHT,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_and_not_refused_is_wanted() {
        let weight = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            weight_of("application/nostr+json", &headers)
        };
        for (accept, expected) in [
            ("application/nostr+json", 1_000),
            ("text/html, Application/Nostr+JSON;q=0.9", 900),
            ("application/nostr+json;v=1", 1_000),
            ("application/nostr+json; v=1 ; Q=0.25", 250),
            ("application/nostr+json;q=0.001", 1),
            ("application/nostr+json;q=1.000", 1_000),
            ("application/nostr+json;q=0.2, application/nostr+json;v=2;q=0.7", 700),
            ("application/nostr+json;q=0", 0),
            ("application/nostr+json;q=0.000", 0),
            ("application/nostr+json;q=0, */*", 0),
            ("application/nostr+json;q=1.5", 0),
            ("application/nostr+json;q=-1", 0),
            ("application/nostr+json;q=", 0),
            ("application/nostr+json;q=0.1234", 0),
            ("*/*", 0),
            ("application/*", 0),
            ("text/html", 0),
            ("application/json", 0),
            ("application/nostr+jsonp", 0),
            ("", 0),
        ] {
            assert_eq!(weight(accept), expected, "{accept}");
        }
        assert_eq!(weight_of("text/html", &HeaderMap::new()), 0);
    }
}
