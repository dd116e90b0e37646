//! What the headers of a request tell: the client's address, as far as trusted proxies vouch for it, and the URL by
//! which the client has reached the relay.

use crate::connection::settings::ConnectionSettings;
use hyper::header::{HOST, HeaderMap, HeaderName};
use std::net::IpAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client's address: `peer`, unless `peer` is a trusted proxy; then the rightmost address in `X-Forwarded-For`
/// that is not a trusted proxy itself. The addresses left of it come from a sender that is not trusted.
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

/// The relay's URL as this client sees it: from its `Host` header; `wss` where the connection itself `is_tls`, or where
/// `peer` is trusted and says so in `X-Forwarded-Proto`.
pub(super) fn relay_url(
    headers: &HeaderMap,
    peer: IpAddr,
    is_tls: bool,
    settings: &ConnectionSettings,
) -> Option<Box<str>> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let is_forwarded_tls = settings.trusts(peer)
        && headers
            .get(X_FORWARDED_PROTO)
            .is_some_and(|value| matches!(value.to_str(), Ok("https" | "wss" | "HTTPS" | "WSS")));
    let scheme = if is_tls || is_forwarded_tls { "wss" } else { "ws" };
    Some(format!("{scheme}://{host}").into())
}

/// An address as proxies write it: plain, with a port, or in brackets with or without one.
fn parse(text: &str) -> Result<IpAddr, std::net::AddrParseError> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
    let plain = bracketed.unwrap_or(text);
    plain
        .parse::<IpAddr>()
        .or_else(|error| {
            plain.parse::<std::net::SocketAddrV4>().map(|with_port| (*with_port.ip()).into()).or(Err(error))
        })
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn trusting(networks: &[&str]) -> ConnectionSettings {
        ConnectionSettings {
            trusted_networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
            ..ConnectionSettings::new(&Config::default())
        }
    }

    fn address(lines: &[&str], peer: &str) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        client_address(&headers, peer.parse().unwrap(), &trusting(&["10.0.0.0/8"])).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(address(&["192.0.2.7"], "198.51.100.1"), "198.51.100.1");
        assert_eq!(address(&["192.0.2.7"], "10.0.0.1"), "192.0.2.7");
        assert_eq!(address(&["192.0.2.7"], "::ffff:10.0.0.1"), "192.0.2.7");
        assert_eq!(address(&[], "10.0.0.1"), "10.0.0.1");
    }

    #[test]
    fn the_rightmost_stranger_is_the_client() {
        assert_eq!(address(&["203.0.113.9, 192.0.2.7, 10.0.0.2"], "10.0.0.1"), "192.0.2.7");
        assert_eq!(address(&["203.0.113.9", "192.0.2.7"], "10.0.0.1"), "192.0.2.7");
        assert_eq!(address(&["10.0.0.3, 10.0.0.2"], "10.0.0.1"), "10.0.0.3");
        assert_eq!(address(&["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.1"), "10.0.0.2");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        assert_eq!(address(&["192.0.2.7:4711"], "10.0.0.1"), "192.0.2.7");
        assert_eq!(address(&["[2001:db8::9]:4711"], "10.0.0.1"), "2001:db8::9");
        assert_eq!(address(&["[2001:db8::9]"], "10.0.0.1"), "2001:db8::9");
        assert_eq!(address(&["2001:db8::9"], "10.0.0.1"), "2001:db8::9");
        assert_eq!(address(&["::ffff:192.0.2.7"], "10.0.0.1"), "192.0.2.7");
    }

    #[test]
    fn the_scheme_comes_from_a_trusted_proxy_or_is_ws() {
        let mut headers = HeaderMap::new();
        let settings = trusting(&["10.0.0.0/8"]);
        let url = |headers: &HeaderMap, peer: &str| relay_url(headers, peer.parse().unwrap(), false, &settings);
        assert_eq!(url(&headers, "10.0.0.1"), None);
        headers.insert(HOST, "relay.example:7777".parse().unwrap());
        headers.insert(X_FORWARDED_PROTO, "https".parse().unwrap());
        assert_eq!(url(&headers, "192.0.2.1").as_deref(), Some("ws://relay.example:7777"));
        assert_eq!(url(&headers, "10.0.0.1").as_deref(), Some("wss://relay.example:7777"));
    }
}
