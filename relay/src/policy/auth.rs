//! Does this AUTH answer our challenge? (NIP-42)

use crate::types::{Event, Kind, PublicKey, Refusal, Timestamp};
use nostr::types::url::Url;
use serde::Deserialize;
use std::borrow::Cow;

/// How far the time of an AUTH may be from this relay's clock, either way, in seconds.
pub const MAX_AUTH_AGE_SECONDS: u64 = 600;

/// A relay's address, compared as NIP-42 suggests: the host in any case, default ports left out or not, with or
/// without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayUrl {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

/// Not an address of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a ws:// or wss:// URL with a host")]
pub struct RelayUrlError;

impl RelayUrl {
    /// Reads a `ws://` or `wss://` URL. A query and a fragment are ignored.
    pub fn parse(text: &str) -> Result<Self, RelayUrlError> {
        let url = Url::parse(text).map_err(|_| RelayUrlError)?;
        let secure = match url.scheme() {
            "wss" => true,
            "ws" => false,
            _ => return Err(RelayUrlError),
        };
        let host = url.host_str().ok_or(RelayUrlError)?.trim_end_matches('.').to_owned();
        let port = url.port_or_known_default().ok_or(RelayUrlError)?;
        Ok(Self { secure, host, port, path: url.path().trim_end_matches('/').to_owned() })
    }
}

/// Checks an AUTH event against the challenge of its connection and the addresses under which this relay is known.
/// Returns whose it is. The signature is for `verify` to check.
pub fn check_auth(event: &Event, challenge: &str, own: &[RelayUrl], now: Timestamp) -> Result<PublicKey, Refusal> {
    #[derive(Deserialize)]
    struct Tags<'a> {
        #[serde(borrow)]
        tags: Vec<Vec<Cow<'a, str>>>,
    }
    let wrong = |why: &str| Err(Refusal::WrongAuthentication(why.to_owned()));
    if event.kind() != Kind::CLIENT_AUTHENTICATION {
        return wrong("the kind must be 22242");
    }
    if event.created_at().abs_diff(now) > MAX_AUTH_AGE_SECONDS {
        return wrong("created_at must be within 10 minutes of now");
    }
    let Ok(Tags { tags }) = serde_json::from_str(event.text()) else { return wrong("the tags cannot be read") };
    let value =
        |name: &str| tags.iter().find(|tag| tag.first().is_some_and(|first| first == name)).and_then(|tag| tag.get(1));
    if value("challenge").is_none_or(|answer| answer != challenge) {
        return wrong("the challenge is not this connection's");
    }
    let named = value("relay").and_then(|url| RelayUrl::parse(url).ok());
    if named.is_none_or(|named| !own.contains(&named)) {
        return wrong("the relay tag names another relay");
    }
    Ok(event.pubkey())
}
