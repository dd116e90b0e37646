//! What the operator decided: plain values, the defaults of a public relay.

use super::RelayUrl;
use crate::config::{Config, KindSet};
use crate::types::{Kind, PublicKey};
use std::collections::{BTreeSet, HashSet};

/// The admission rules of one relay. Every limit is inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The most tags of an event.
    pub max_tags: u32,
    /// The most Unicode characters of an event's content; `None` leaves it to the size of the message.
    pub max_content_chars: Option<u32>,
    /// The greatest age of an event in seconds; `None` takes any.
    pub max_age_seconds: Option<u64>,
    /// The same for ephemeral events, which are of no use later; `None` takes any.
    pub max_ephemeral_age_seconds: Option<u64>,
    /// How many seconds an event may be ahead of this relay's clock.
    pub max_ahead_seconds: u64,
    /// The bits of proof of work that an event must commit to and have (NIP-13); 0 asks for none.
    pub min_pow_bits: u8,
    /// If set, only these authors may write. A gift wrap's author is a throw-away key (NIP-59): there one of its
    /// recipients must be on the list.
    pub allowed_authors: Option<HashSet<PublicKey>>,
    /// These authors may not write.
    pub denied_authors: HashSet<PublicKey>,
    /// If set, only these kinds are taken.
    pub allowed_kinds: Option<BTreeSet<Kind>>,
    /// These kinds are not taken.
    pub denied_kinds: BTreeSet<Kind>,
    /// Writing asks for an authenticated connection (NIP-42).
    pub auth_to_write: bool,
    /// Handing in a gift wrap asks for an authenticated connection, since nothing else tells a spammer's (NIP-59).
    pub auth_to_write_gift_wraps: bool,
    /// Reading asks for an authenticated connection (NIP-42).
    pub auth_to_read: bool,
    /// The addresses under which this relay is known; empty where the configuration names none.
    pub own_urls: Vec<RelayUrl>,
    /// An ephemeral event that surely has no subscriber is refused with `mute:` (NIP-01).
    pub mute_unheard: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_tags: 5_000,
            max_content_chars: None,
            max_age_seconds: None,
            max_ephemeral_age_seconds: Some(5 * 60),
            max_ahead_seconds: 15 * 60,
            min_pow_bits: 0,
            allowed_authors: None,
            denied_authors: HashSet::new(),
            allowed_kinds: None,
            denied_kinds: BTreeSet::new(),
            auth_to_write: false,
            auth_to_write_gift_wraps: false,
            auth_to_read: false,
            own_urls: Vec::new(),
            mute_unheard: false,
        }
    }
}

impl Rules {
    /// What a configuration says about admission.
    pub fn new(config: &Config) -> Self {
        let Config { limits, access, .. } = config;
        let kinds = |kinds: &KindSet| kinds.iter().collect::<BTreeSet<_>>();
        Self {
            max_tags: limits.max_event_tags,
            max_content_chars: Some(limits.max_content_chars),
            max_age_seconds: Some(limits.max_age_seconds).filter(|age| *age > 0),
            max_ephemeral_age_seconds: Some(limits.max_ephemeral_age_seconds).filter(|age| *age > 0),
            max_ahead_seconds: limits.max_ahead_seconds,
            min_pow_bits: limits.min_pow_bits,
            allowed_authors: Some(access.allow_pubkeys.iter().copied().collect())
                .filter(|allowed: &HashSet<_>| !allowed.is_empty()),
            denied_authors: access.deny_pubkeys.iter().copied().collect(),
            allowed_kinds: Some(kinds(&access.allow_kinds)).filter(|allowed| !allowed.is_empty()),
            denied_kinds: kinds(&access.deny_kinds),
            auth_to_write: access.auth_to_write,
            auth_to_write_gift_wraps: access.auth_to_write_gift_wraps,
            auth_to_read: access.auth_to_read,
            own_urls: config.own_urls().filter_map(|url| RelayUrl::parse(url).ok()).collect(),
            mute_unheard: access.mute_unheard,
        }
    }
}
