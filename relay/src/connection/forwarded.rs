//! Who a client is and how it came, as far as trusted proxies tell.

use super::ConnectionSettings;
use hyper::header::{HOST, HeaderMap, HeaderName};
use std::net::IpAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client's address: `peer`, unless `peer` is a trusted proxy; then the rightmost address in `X-Forwarded-For`
/// that is not a trusted proxy itself. What stands left of it was written by someone we have no reason to believe.
pub(super) fn client_address(headers: &HeaderMap, peer: IpAddr, settings: &ConnectionSettings) -> IpAddr {
    if !settings.trusts(peer) {
        return peer;
    }
    let mut nearest = peer;
    for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        for text in value.to_str().unwrap_or_default().rsplit(',') {
            let Ok(address) = parse(text.trim()) else { return nearest };
            nearest = address;
            if !settings.trusts(address) {
                return nearest;
            }
        }
    }
    nearest
}

/// The relay's URL as this client sees it, from its `Host` header and, where `peer` is trusted, `X-Forwarded-Proto`.
pub(super) fn own_url(headers: &HeaderMap, peer: IpAddr, settings: &ConnectionSettings) -> Option<Box<str>> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let secure = settings.trusts(peer)
        && headers
            .get(X_FORWARDED_PROTO)
            .is_some_and(|value| matches!(value.to_str(), Ok("https" | "wss" | "HTTPS" | "WSS")));
    let scheme = if secure { "wss" } else { "ws" };
    Some(format!("{scheme}://{host}").into())
}

/// An address as proxies write it: plain, with a port, or in brackets with or without one.
fn parse(text: &str) -> Result<IpAddr, std::net::AddrParseError> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
    let plain = bracketed.unwrap_or(text);
    plain
        .parse::<IpAddr>()
        .or_else(|error| plain.parse::<std::net::SocketAddrV4>().map(|with_port| (*with_port.ip()).into()).or(Err(error)))
        .map(|address| address.to_canonical())
}
