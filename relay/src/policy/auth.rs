//! Does this AUTH answer our challenge? (NIP-42)

use crate::types::{Event, Kind, PublicKey, Refusal, Timestamp};
use nostr::types::url::Url;
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

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

    /// True where the host can be no other relay's name: `localhost`, an address that is loopback, link-local or
    /// private, or `local`, the address of this machine to which the client has connected.
    pub fn is_surely_own(&self, local: Option<IpAddr>) -> bool {
        if self.host == "localhost" || self.host.ends_with(".localhost") {
            return true;
        }
        let Ok(address) = self.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() else {
            return false;
        };
        let address = address.to_canonical();
        let is_local = match address {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        };
        is_local || local.is_some_and(|local| local.to_canonical() == address)
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secure, host, port, path } = self;
        let (scheme, default_port) = if *secure { ("wss", 443) } else { ("ws", 80) };
        write!(f, "{scheme}://{host}")?;
        if *port != default_port {
            write!(f, ":{port}")?;
        }
        f.write_str(path)
    }
}

/// The addresses that an AUTH may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnUrls<'a> {
    /// Those that the operator has set; at least one.
    Configured(&'a [RelayUrl]),
    /// None is set. The address by which the client has reached the relay, if it
    /// [can be no other relay's](RelayUrl::is_surely_own). Any other would let a relay in the middle pass our challenge
    /// to its own clients and use their answer here.
    Reached(Option<&'a RelayUrl>),
}

/// Every tag of `event`, whatever its name. `None` where they cannot be read, which no event that was parsed is.
pub(super) fn tags(event: &Event) -> Option<Vec<Vec<Cow<'_, str>>>> {
    #[derive(Deserialize)]
    struct TagsField<'a> {
        #[serde(borrow)]
        tags: Vec<Vec<Cow<'a, str>>>,
    }
    serde_json::from_str(event.text()).ok().map(|TagsField { tags }| tags)
}

/// Checks an AUTH event against the challenge of its connection and the relay's own addresses. Returns whose it is. The
/// signature is for `verify` to check.
pub fn check_auth(event: &Event, challenge: &str, own: OwnUrls<'_>, now: Timestamp) -> Result<PublicKey, Refusal> {
    let wrong = |why: &str| Err(Refusal::WrongAuthentication(why.to_owned()));

    if event.kind() != Kind::CLIENT_AUTHENTICATION {
        return wrong("the kind must be 22242");
    }
    if event.created_at().abs_diff(now) > MAX_AUTH_AGE_SECONDS {
        return wrong("created_at must be within 10 minutes of now");
    }
    let Some(tags) = tags(event) else { return wrong("the tags cannot be read") };
    let value =
        |name: &str| tags.iter().find(|tag| tag.first().is_some_and(|first| first == name)).and_then(|tag| tag.get(1));
    if value("challenge").is_none_or(|answer| answer != challenge) {
        return wrong("the challenge is not this connection's");
    }
    let named = value("relay").and_then(|url| RelayUrl::parse(url).ok());
    match (own, named) {
        (OwnUrls::Configured(urls), Some(named)) if urls.contains(&named) => Ok(event.pubkey()),
        (OwnUrls::Reached(Some(url)), Some(named)) if *url == named => Ok(event.pubkey()),
        (OwnUrls::Configured([url, ..]), _) => wrong(&format!("the relay tag must name {url}")),
        (OwnUrls::Configured([]) | OwnUrls::Reached(_), _) => wrong(
            "the relay tag names an address that may be another relay's: the operator has to set this relay's own \
             (setting public_url)",
        ),
    }
}
