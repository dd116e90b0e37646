//! May this event come in?

use super::{Rules, check_vanish};
use crate::types::{Access, Event, EventId, Kind, KindClass, PublicKey, Refusal, Timestamp};
use serde_json::Value;

/// What an `expiration` tag must say (NIP-40); the words for one that does not.
pub const MALFORMED_EXPIRATION: &str = "`expiration` must be a whole number of seconds since 1970";

/// Checks everything about `event` but its signature, as of `now`, for a client with `access`. The first rule that it
/// breaks is the answer; the rules are in the order of their cost.
pub fn check(event: &Event, rules: &Rules, access: &Access, now: Timestamp) -> Result<(), Refusal> {
    check_size(event, rules)?;
    if event.kind() == Kind::VANISH {
        // From every author: lists, proof of work and authentication must not refuse a request to vanish (NIP-62).
        check_clock(event, rules, now)?;
        check_protection(event, access)?;
        return check_vanish(event, &rules.own_urls);
    }
    check_time(event, rules, now)?;
    check_work(event, rules)?;
    check_lists(event, rules)?;
    check_authentication(event, rules, access)?;
    check_embedded(event)
}

fn check_size(event: &Event, rules: &Rules) -> Result<(), Refusal> {
    if event.tag_count() > rules.max_tags {
        return Err(Refusal::TooManyTags { max: rules.max_tags });
    }
    match rules.max_content_chars {
        Some(max_chars) if event.content_chars() > max_chars => Err(Refusal::ContentTooLong { max_chars }),
        _ => Ok(()),
    }
}

fn check_time(event: &Event, rules: &Rules, now: Timestamp) -> Result<(), Refusal> {
    let created_at = event.created_at();
    if let Some(max_age_seconds) = rules.max_age_seconds
        && created_at < now.saturating_sub_unsigned(max_age_seconds)
    {
        return Err(Refusal::TooOld { max_age_seconds });
    }
    if let Some(max_age_seconds) = rules.max_ephemeral_age_seconds
        && event.kind().class() == KindClass::Ephemeral
        && created_at < now.saturating_sub_unsigned(max_age_seconds)
    {
        return Err(Refusal::TooOld { max_age_seconds });
    }
    check_clock(event, rules, now)
}

fn check_clock(event: &Event, rules: &Rules, now: Timestamp) -> Result<(), Refusal> {
    if event.created_at() > now.saturating_add_unsigned(rules.max_ahead_seconds) {
        return Err(Refusal::TooNew { max_ahead_seconds: rules.max_ahead_seconds });
    }
    if event.has_malformed_expiration() {
        return Err(Refusal::Invalid(MALFORMED_EXPIRATION.to_owned()));
    }
    match event.expires_at() {
        Some(at) if event.is_expired(now) => Err(Refusal::Expired { at }),
        _ => Ok(()),
    }
}

/// NIP-13. The lesser of the work that was done and the work that the event commits to counts: a spammer who aims low
/// and is lucky has not done more work. An event without a commitment has none.
fn check_work(event: &Event, rules: &Rules) -> Result<(), Refusal> {
    let min_bits = rules.min_pow_bits;
    if min_bits == 0 {
        return Ok(());
    }
    let found_bits = leading_zero_bits(event.id()).min(event.committed_pow().unwrap_or(0));
    if found_bits < min_bits { Err(Refusal::ProofOfWork { min_bits, found_bits }) } else { Ok(()) }
}

fn leading_zero_bits(id: EventId) -> u8 {
    let mut bits = 0u8;
    for byte in id.as_bytes() {
        bits = bits.saturating_add(byte.leading_zeros() as u8);
        if *byte != 0 {
            break;
        }
    }
    bits
}

fn check_lists(event: &Event, rules: &Rules) -> Result<(), Refusal> {
    let kind = event.kind();
    if kind == Kind::CLIENT_AUTHENTICATION {
        return Err(Refusal::AuthenticationAsEvent);
    }
    if rules.denied_kinds.contains(&kind) || rules.allowed_kinds.as_ref().is_some_and(|kinds| !kinds.contains(&kind)) {
        return Err(Refusal::KindBlocked(kind));
    }
    if rules.denied_authors.contains(&event.pubkey()) {
        return Err(Refusal::AuthorBlocked);
    }
    let Some(allowed) = &rules.allowed_authors else { return Ok(()) };
    let known = if is_gift_wrap(kind) {
        event
            .tag_values(b'p')
            .filter_map(|value| PublicKey::from_hex(value.as_bytes()).ok())
            .any(|p| allowed.contains(&p))
    } else {
        allowed.contains(&event.pubkey())
    };
    if known { Ok(()) } else { Err(Refusal::AuthorBlocked) }
}

const fn is_gift_wrap(kind: Kind) -> bool {
    matches!(kind, Kind::GIFT_WRAP | Kind::EPHEMERAL_GIFT_WRAP)
}

fn check_authentication(event: &Event, rules: &Rules, access: &Access) -> Result<(), Refusal> {
    let stranger = access.authenticated.is_empty();
    if stranger && (rules.auth_to_write || (rules.auth_to_write_gift_wraps && is_gift_wrap(event.kind()))) {
        return Err(Refusal::WriteNeedsAuthentication);
    }
    check_protection(event, access)
}

/// NIP-70.
fn check_protection(event: &Event, access: &Access) -> Result<(), Refusal> {
    if event.is_protected() && !access.authenticated.contains(&event.pubkey()) {
        let stranger = access.authenticated.is_empty();
        return Err(if stranger { Refusal::ProtectedNeedsAuthentication } else { Refusal::ProtectedNotAuthor });
    }
    Ok(())
}

/// NIP-70: a repost (NIP-18) must not carry a protected event along. Reads the content only of reposts, and takes one
/// that is no event for what it is: no embedding.
fn check_embedded(event: &Event) -> Result<(), Refusal> {
    if !matches!(event.kind(), Kind::REPOST | Kind::GENERIC_REPOST) || event.content_chars() == 0 {
        return Ok(());
    }
    let content = event.content();
    let is_protected = match serde_json::from_str::<Value>(&content) {
        // As clients read it: of a key that comes twice, the last.
        Ok(embedded) => {
            let tags = embedded.get("tags").and_then(Value::as_array);
            tags.is_some_and(|tags| tags.iter().any(|tag| tag.get(0).is_some_and(|name| name == "-")))
        }
        // Numbers out of range, lone surrogates, a hundred lists in each other: what is no JSON here others may take.
        Err(_) => {
            content.trim_start().starts_with('{')
                && ["\"-\"", "\\u002d", "\\u002D"].iter().any(|tag| content.contains(tag))
        }
    };
    match is_protected {
        true => Err(Refusal::ProtectedEmbedded),
        false => Ok(()),
    }
}
