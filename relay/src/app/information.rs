//! The relay information document (NIP-11), from the settings that are in force.

use crate::config::Config;
use crate::message::SUPPORTED_NIPS;
use crate::types::Kind;
use serde_json::{Map, Value, json};

/// The longest subscription id (NIP-01).
const MAX_SUBSCRIPTION_ID_CHARS: usize = 64;

/// The URL of this software, by which monitors tell relays apart (NIP-66): `repository` in relay/Cargo.toml, which the
/// publisher of a version, or of a fork, sets there. Without it, a name that RFC 2606 reserves, so that the URL does
/// not lead to a page of somebody else.
const SOFTWARE_URL: &str =
    if env!("CARGO_PKG_REPOSITORY").is_empty() { "https://skein.example" } else { env!("CARGO_PKG_REPOSITORY") };

/// The document, as JSON. It tells every limit that is enforced and no other.
pub(super) fn document(config: &Config) -> String {
    let Config { limits, access, info, .. } = config;
    let mut document = Map::new();
    for (key, text) in [
        ("software", SOFTWARE_URL),
        ("name", info.name.as_str()),
        ("description", info.description.as_str()),
        ("banner", info.banner.as_str()),
        ("icon", info.icon.as_str()),
        ("pubkey", info.pubkey.as_str()),
        ("self", info.own_pubkey.as_str()),
        ("contact", info.contact.as_str()),
        ("terms_of_service", info.terms_of_service.as_str()),
    ] {
        if !text.is_empty() {
            document.insert(key.to_owned(), Value::String(text.to_owned()));
        }
    }
    let restricted = access.auth_to_write
        || limits.min_pow_bits > 0
        || !access.allow_pubkeys.is_empty()
        || !access.allow_kinds.is_empty();
    let mut limitation = json!({
        "max_message_length": limits.max_message_bytes,
        "max_subscriptions": limits.max_subscriptions,
        "max_filters": limits.max_filters,
        "max_req_bytes": limits.max_req_bytes,
        "max_subscriptions_bytes": limits.max_subscriptions_bytes,
        "max_subid_length": MAX_SUBSCRIPTION_ID_CHARS,
        "max_limit": limits.max_limit,
        "default_limit": limits.default_limit,
        "max_event_tags": limits.max_event_tags,
        "max_content_length": limits.max_content_chars,
        "min_pow_difficulty": limits.min_pow_bits,
        "auth_required": access.auth_to_read && access.auth_to_write,
        "payment_required": false,
        "restricted_writes": restricted,
        "created_at_upper_limit": limits.max_ahead_seconds,
    });
    let where_set =
        [("created_at_lower_limit", limits.max_age_seconds), ("max_filter_values", limits.max_filter_values as u64)];
    for (key, limit) in where_set.into_iter().filter(|(_, limit)| *limit > 0) {
        if let Some(limitation) = limitation.as_object_mut() {
            limitation.insert(key.to_owned(), json!(limit));
        }
    }
    let nips: Vec<u16> = SUPPORTED_NIPS.iter().map(|(number, _)| *number).filter(|nip| is_on(*nip, config)).collect();
    document.insert("supported_nips".to_owned(), json!(nips));
    document.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    document.insert("limitation".to_owned(), limitation);
    Value::Object(document).to_string()
}

/// True unless the NIP depends on a setting that is off.
fn is_on(nip: u16, config: &Config) -> bool {
    match nip {
        67 => config.protocol.eose_hints,
        78 => APPLICATION_DATA.iter().all(|kind| config.access.author_kinds.contains(*kind)),
        _ => true,
    }
}

/// The kinds that NIP-78 asks a relay to serve to their author alone.
const APPLICATION_DATA: [Kind; 2] = [Kind(78), Kind(30_078)];

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(config: &Config) -> Value {
        serde_json::from_str(&document(config)).expect("valid JSON")
    }

    #[test]
    fn the_document_has_what_is_set_and_nothing_else() {
        let mut config = Config::default();
        assert_eq!(parsed(&config)["limitation"]["created_at_lower_limit"], Value::Null);
        assert!(parsed(&config).get("contact").is_none());
        config.limits.max_age_seconds = 3_600;
        config.limits.max_limit = 77;
        config.info.contact = "mailto:op@example.com".to_owned();
        config.info.own_pubkey = "ab".repeat(32);
        let document = parsed(&config);
        assert_eq!(document["limitation"]["created_at_lower_limit"], 3_600);
        assert_eq!(document["limitation"]["max_limit"], 77);
        assert_eq!(document["contact"], "mailto:op@example.com");
        assert_eq!(document["self"], "ab".repeat(32));
    }

    #[test]
    fn software_and_version_are_those_of_this_build() {
        let document = parsed(&Config::default());
        assert!(document["software"].as_str().is_some_and(|url| url.starts_with("https://")), "NIP-11 wants a URL");
        assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_nip_that_a_setting_turns_on_is_named_where_it_is_on() {
        let mut config = Config::default();
        let names = |config: &Config, nip: u16| {
            parsed(config)["supported_nips"].as_array().is_some_and(|nips| nips.contains(&json!(nip)))
        };
        assert!(names(&config, 59) && !names(&config, 67) && !names(&config, 78));
        config.protocol.eose_hints = true;
        assert!(names(&config, 67));
        for (kinds, named) in [(&["30078"][..], false), (&["30078", "78"], true), (&["78-30078"], true)] {
            let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            config.access.author_kinds = toml::Value::from(kinds.clone()).try_into().expect("kinds");
            assert_eq!(names(&config, 78), named, "{kinds:?}");
        }
    }

    #[test]
    fn one_rule_makes_writes_restricted() {
        let mut config = Config::default();
        assert_eq!(parsed(&config)["limitation"]["restricted_writes"], false);
        config.limits.min_pow_bits = 8;
        assert_eq!(parsed(&config)["limitation"]["restricted_writes"], true);
    }
}
