//! Reads single values: durations, addresses, keys, kinds.

use crate::types::{Kind, PublicKey};
use nostr::nips::nip19::FromBech32;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, de};
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The most seconds of a duration: with a century the sum of two cannot overflow.
const MAX_SECONDS: u64 = 100 * 366 * 24 * 3600;

/// The number of cores that this process may use, at least 1.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = u64::deserialize(deserializer)?;
    if seconds > MAX_SECONDS {
        return Err(D::Error::custom(format_args!("{seconds} seconds are more than a century")));
    }
    Ok(Duration::from_secs(seconds))
}

pub(super) fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let millis = u64::deserialize(deserializer)?;
    if millis > 1_000 * MAX_SECONDS {
        return Err(D::Error::custom(format_args!("{millis} milliseconds are more than a century")));
    }
    Ok(Duration::from_millis(millis))
}

pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(super) fn address_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { parse_address(&text).map(Some).map_err(D::Error::custom) }
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_address(text).map_err(D::Error::custom)).collect()
}

pub(super) fn path_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(if text.is_empty() { None } else { Some(PathBuf::from(text)) })
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no IP address with a port: write it like 127.0.0.1:7777"))
}

/// Public keys, from hex or npub.
pub(super) fn pubkeys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<PublicKey>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_pubkey(text).map_err(D::Error::custom)).collect()
}

/// One public key as hex, from hex or npub; or nothing.
pub(super) fn pubkey_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(text) } else { parse_pubkey(&text).map(|key| key.to_hex()).map_err(D::Error::custom) }
}

/// Reads a public key from hex or npub; an error is text for the operator.
pub fn parse_pubkey(text: &str) -> Result<PublicKey, String> {
    if text.starts_with("nsec1") {
        return Err("this is a secret key; what belongs here is the public one, npub or hex".to_owned());
    }
    match text.starts_with("npub1") {
        true => nostr::key::PublicKey::from_bech32(text).ok().map(|key| PublicKey::from_bytes(key.to_bytes())),
        false => PublicKey::from_hex(text.as_bytes()).ok(),
    }
    .ok_or_else(|| format!("\"{text}\" is no public key: write 64 lowercase hex digits or an npub"))
}

/// A set of kinds, written as numbers and as ranges such as `"30000-39999"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct KindSet(Vec<KindRange>);

impl KindSet {
    /// True when the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `kind` is in the set.
    pub fn contains(&self, kind: Kind) -> bool {
        self.0.iter().any(|range| range.0.contains(&kind.0))
    }

    /// Every kind in the set, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = Kind> + '_ {
        self.0.iter().flat_map(|range| range.0.clone()).map(Kind)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KindRange(pub(super) RangeInclusive<u16>);

impl KindRange {
    /// Reads a kind or a range of kinds.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Some(Self(first..=last)),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for KindRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KindRangeVisitor;
        impl Visitor<'_> for KindRangeVisitor {
            type Value = KindRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a kind, 0 to 65535, or a range such as \"30000-39999\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<KindRange, E> {
                let kind = u16::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
                Ok(KindRange(kind..=kind))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KindRange, E> {
                KindRange::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(KindRangeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_hex_and_npub_alike() {
        let hex = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
        let npub = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";
        assert_eq!(parse_pubkey(hex), parse_pubkey(npub));
        assert_eq!(parse_pubkey(hex).map(|key| key.to_hex()), Ok(hex.to_owned()));
        for wrong in ["", "abc", &hex.to_uppercase(), "npub1abc"] {
            assert!(parse_pubkey(wrong).is_err(), "{wrong}");
        }
        let secret = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
        assert!(!parse_pubkey(secret).unwrap_err().contains(secret), "a secret key must not be repeated");
    }

    #[test]
    fn kinds_are_numbers_and_ranges() {
        let set: KindSet = toml::Value::from(vec!["7".to_owned(), "20000-29999".to_owned()]).try_into().unwrap();
        assert!(set.contains(Kind(7)) && set.contains(Kind(20000)) && set.contains(Kind(29999)));
        assert!(!set.contains(Kind(8)) && !set.contains(Kind(30000)));
        assert_eq!(set.iter().count(), 10001);
        for wrong in ["", "70000", "9-8", "a-b", "-1"] {
            assert!(toml::Value::from(vec![wrong.to_owned()]).try_into::<KindSet>().is_err(), "{wrong}");
        }
    }
}
