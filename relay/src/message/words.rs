//! The one map from decisions to NIP-01's machine-readable prefixes and sentences for people.

use crate::types::Refusal;

/// The words of an OK for an event that was stored, or passed on, before.
pub(super) const DUPLICATE: &str = "duplicate: already have this event";

/// `prefix: sentence`.
pub(super) fn words(refusal: &Refusal) -> String {
    use Refusal as R;
    let (prefix, sentence) = match refusal {
        R::Invalid(words) => (INVALID, words.clone()),
        R::Unsupported(words) => (UNSUPPORTED, words.clone()),
        R::WrongId => (INVALID, "the id is not the hash of the event".into()),
        R::WrongSignature => (INVALID, "the signature does not hold".into()),
        // The setting is for the operator to whom the client complains.
        R::MessageTooLarge { max_bytes } => {
            (INVALID, format!("a message may have at most {max_bytes} bytes (limits.max_message_bytes)"))
        }
        R::TooManyTags { max } => (INVALID, format!("an event may have at most {max} tags (limits.max_event_tags)")),
        R::ContentTooLong { max_chars } => {
            (INVALID, format!("the content may have at most {max_chars} characters (limits.max_content_chars)"))
        }
        R::TooOld { max_age_seconds } => {
            (INVALID, format!("created_at lies more than {max_age_seconds} seconds in the past"))
        }
        R::TooNew { max_ahead_seconds } => {
            (INVALID, format!("created_at lies more than {max_ahead_seconds} seconds in the future"))
        }
        R::Expired { at } => (INVALID, format!("the event expired at {at}")),
        R::ProofOfWork { min_bits, found_bits } => {
            (POW, format!("{min_bits} bits of proof of work are needed, this has {found_bits}"))
        }
        R::Superseded => (BLOCKED, "a newer version of this event is known".into()),
        R::Deleted => (BLOCKED, "this event was deleted".into()),
        R::Vanished => (BLOCKED, "this key has asked this relay to forget its events up to that time".into()),
        R::VanishElsewhere => {
            (INVALID, "a request to vanish must name this relay's URL or ALL_RELAYS in a `relay` tag".into())
        }
        R::AuthorBlocked => (BLOCKED, "this author may not write here".into()),
        R::KindBlocked(kind) => (BLOCKED, format!("kind {} is not taken here", kind.0)),
        R::ProtectedNeedsAuthentication => (AUTH_REQUIRED, "this event may only be published by its author".into()),
        R::ProtectedNotAuthor => (RESTRICTED, "this event may only be published by its author".into()),
        R::ProtectedEmbedded => (BLOCKED, "a repost must not embed a protected event".into()),
        R::WriteNeedsAuthentication => (AUTH_REQUIRED, "authenticate to publish".into()),
        R::ReadNeedsAuthentication => (AUTH_REQUIRED, "authenticate to read".into()),
        R::PrivateNeedsAuthentication => {
            (AUTH_REQUIRED, "these kinds are served only to those whom they are for".into())
        }
        R::AuthenticationAsEvent => (INVALID, "kind 22242 belongs into an AUTH message".into()),
        R::WrongAuthentication(words) => (INVALID, words.clone()),
        R::RateLimited => (RATE_LIMITED, "slow down, you send too much".into()),
        R::TooCostly { max_bytes } => (
            INVALID,
            format!(
                "the filters ask for too much at once: their values may cost {max_bytes} bytes (limits.max_req_bytes)"
            ),
        ),
        R::TooManySubscriptions { max } => {
            // Clients tell this limit from one on the rate by these first words.
            (RATE_LIMITED, format!("too many subscriptions: a connection may hold at most {max}, close some first"))
        }
        R::SubscriptionsTooLarge { max_bytes } => (
            RATE_LIMITED,
            format!(
                "too many subscriptions of this size: those of a connection may hold {max_bytes} bytes \
                 (limits.max_subscriptions_bytes), close some first"
            ),
        ),
        R::MemoryShare => (
            RATE_LIMITED,
            "you hold as much of this relay's memory as one connection may: read what waits for you, or close \
             subscriptions, and ask again"
                .into(),
        ),
        R::SlowReader => {
            (RATE_LIMITED, "you do not read what was sent to you, and memory is short: read it and ask again".into())
        }
        R::TooSlow => (ERROR, "too slow: events were lost on the way to you, subscribe again".into()),
        R::LogCut => (ERROR, "events may have been missed, subscribe again".into()),
        R::Unheard => (MUTE, "nobody was listening to this ephemeral event".into()),
        R::Overloaded => (ERROR, "the relay is overloaded, try again later".into()),
        R::Timeout => (ERROR, "the query took too long, narrow it down".into()),
        R::StoreFailed => (ERROR, "the database failed, try again later".into()),
        R::DiskFull => (ERROR, "the disk is full, nothing can be stored".into()),
        R::DatabaseLocked => (ERROR, "the database is locked, try again later".into()),
        R::ShuttingDown => (ERROR, "the relay is shutting down, connect again".into()),
    };
    format!("{prefix}: {sentence}")
}

const POW: &str = "pow";
const BLOCKED: &str = "blocked";
const RATE_LIMITED: &str = "rate-limited";
const INVALID: &str = "invalid";
const RESTRICTED: &str = "restricted";
const MUTE: &str = "mute";
const ERROR: &str = "error";
const AUTH_REQUIRED: &str = "auth-required";
const UNSUPPORTED: &str = "unsupported";
