//! Checks requests before they are answered: the `Host` of any request (RFC 9112, 3.2) and the opening handshake of a
//! WebSocket (RFC 6455, 4.2.1).

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Why a request is refused: the status, and words for people.
pub(super) type Rejection = (StatusCode, &'static str);

const fn bad_request(words: &'static str) -> Rejection {
    (StatusCode::BAD_REQUEST, words)
}

/// Checks that a request has one `Host`, and that it is one. HTTP/1.0 knows none.
pub(super) fn check_host<B>(request: &Request<B>) -> Result<(), Rejection> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => Ok(()),
        (None, _) => Err(bad_request("a request begins with `Host`\n")),
        (Some(_), Some(_)) => Err(bad_request("a request has one `Host` only\n")),
        (Some(host), None) if is_host(host) => Ok(()),
        (Some(_), None) => Err(bad_request("this `Host` is no host\n")),
    }
}

/// True for a host, with or without a port. An empty one is allowed (RFC 9112, 3.2).
fn is_host(value: &HeaderValue) -> bool {
    let is_authority = |text: &str| text.parse::<Authority>().is_ok() && !text.contains('@');
    value.to_str().is_ok_and(|text| text.is_empty() || is_authority(text))
}

/// True where a request asks for a WebSocket.
pub(super) fn wants_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
}

/// Checks an opening handshake and returns the value of `Sec-WebSocket-Accept`.
pub(super) fn check_handshake<B>(request: &Request<B>) -> Result<HeaderValue, Rejection> {
    let headers = request.headers();
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(bad_request("a WebSocket begins with GET and HTTP/1.1\n"));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(bad_request("a WebSocket begins with `Connection: upgrade`\n"));
    }

    // What follows the request is read as frames, so a body would be taken for one.
    let has_length = headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
    if has_length || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(bad_request("the request for a WebSocket has no body\n"));
    }

    let versions = headers.get_all(header::SEC_WEBSOCKET_VERSION);
    if versions.iter().count() > 1 {
        return Err(bad_request("a WebSocket begins with one `Sec-WebSocket-Version`\n"));
    }
    if versions.iter().all(|version| version != "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "this relay speaks WebSocket version 13\n"));
    }

    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => HeaderValue::try_from(derive_accept_key(key.as_bytes()))
            .map_err(|_| bad_request("this key has no answer\n")),
        (_, Some(_)) => Err(bad_request("a WebSocket begins with one `Sec-WebSocket-Key`\n")),
        _ => Err(bad_request("a WebSocket begins with a `Sec-WebSocket-Key` of 16 bytes in base64\n")),
    }
}

/// True for 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(is_digit))
}

/// True where a header that is a list holds `token`.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}
