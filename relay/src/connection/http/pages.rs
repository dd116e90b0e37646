//! What the relay answers over plain HTTP.

use super::landing;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};

/// An answer with its whole body.
pub(super) type Page = Response<Full<Bytes>>;

const LANDING: &str = "This is a Nostr relay. Connect to it with a Nostr client, over WebSocket (ws:// or wss://).\n";

/// The answer to those who come while every place is taken or the relay is going down, when no request is even
/// parsed.
pub(in crate::connection) const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 41\r\n\
    retry-after: 10\r\n\
    connection: close\r\n\
    \r\n\
    no connection is free here, come by later";

/// A sentence for people.
pub(super) fn text(status: StatusCode, words: &'static str) -> Page {
    let mut page = Page::new(Full::new(Bytes::from_static(words.as_bytes())));
    *page.status_mut() = status;
    set(&mut page, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    page
}

/// [`text`], with the wish to be asked again some seconds later.
pub(super) fn later(status: StatusCode, words: &'static str) -> Page {
    let mut page = text(status, words);
    set(&mut page, header::RETRY_AFTER, "10");
    page
}

/// The answer to a request for `/` that wants no WebSocket: the relay information document (NIP-11) where it is asked
/// for, a page with the relay's `url` for a browser, else a sentence.
pub(super) fn root(
    method: &Method,
    headers: &HeaderMap,
    information: &Bytes,
    url: impl FnOnce() -> Option<Box<str>>,
) -> Page {
    let mut page = match *method {
        // A preflight: NIP-11 asks for the CORS headers, and the document may be asked for with any header.
        Method::OPTIONS => text(StatusCode::NO_CONTENT, ""),
        Method::GET | Method::HEAD if accepts(headers, "application/nostr+json") => {
            let mut page = Page::new(Full::new(information.clone()));
            set(&mut page, header::CONTENT_TYPE, "application/nostr+json");
            page
        }
        Method::GET | Method::HEAD if accepts(headers, "text/html") => {
            let mut page = Page::new(Full::new(Bytes::from(landing::page(information, url().as_deref()))));
            set(&mut page, header::CONTENT_TYPE, "text/html; charset=utf-8");
            set(&mut page, header::CONTENT_SECURITY_POLICY, landing::POLICY);
            set(&mut page, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
            page
        }
        Method::GET | Method::HEAD => text(StatusCode::OK, LANDING),
        _ => {
            let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is of use here\n");
            set(&mut page, header::ALLOW, "GET, HEAD, OPTIONS");
            page
        }
    };
    set(&mut page, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(&mut page, header::ACCESS_CONTROL_ALLOW_HEADERS, "*");
    set(&mut page, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS");
    set(&mut page, header::VARY, "accept");
    page
}

/// Sets one header to a value that is known to be well-formed.
pub(super) fn set(page: &mut Page, name: header::HeaderName, value: &'static str) {
    page.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// True when one of the media types that the client accepts is `wanted`, whatever its parameters.
fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|media_type| media_type.trim().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_answer_is_well_formed() {
        let text = std::str::from_utf8(UNAVAILABLE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }

    #[test]
    fn the_document_is_for_those_who_ask_for_it() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            accepts(&headers, "application/nostr+json")
        };
        for accept in
            ["application/nostr+json", "text/html, Application/Nostr+JSON;q=0.9", "application/nostr+json;v=1"]
        {
            assert!(wants(accept), "{accept}");
        }
        for accept in ["*/*", "text/html", "application/json", "application/nostr+jsonp"] {
            assert!(!wants(accept), "{accept}");
        }
    }
}
