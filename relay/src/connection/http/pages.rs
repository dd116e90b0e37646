//! What the relay answers over plain HTTP.

use super::accept::weight_of;
use super::landing;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};

/// A response with its whole body.
pub(super) type HttpResponse = Response<Full<Bytes>>;

const LANDING: &str = "This is a Nostr relay. Connect to it with a Nostr client, over WebSocket (ws:// or wss://).\n";

/// The response to a connection beyond the limits, or while the relay drains. No request is parsed for it.
pub(in crate::connection) const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 41\r\n\
    retry-after: 10\r\n\
    connection: close\r\n\
    \r\n\
    no connection is free here, come by later";

/// A response with a sentence for people.
pub(super) fn text(status: StatusCode, words: &'static str) -> HttpResponse {
    let mut page = HttpResponse::new(Full::new(Bytes::from_static(words.as_bytes())));
    *page.status_mut() = status;
    set(&mut page, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    page
}

/// [`text`] for a passing trouble: the client may try again in some seconds.
pub(super) fn retry_later(status: StatusCode, words: &'static str) -> HttpResponse {
    let mut page = text(status, words);
    set(&mut page, header::RETRY_AFTER, "10");
    page
}

/// The response to a request for `/` that wants no WebSocket: the relay information document (NIP-11) or a page for
/// browsers that shows the relay's `url`, whichever the client prefers, else a sentence.
pub(super) fn root(
    method: &Method,
    headers: &HeaderMap,
    information: &Bytes,
    url: impl FnOnce() -> Option<Box<str>>,
) -> HttpResponse {
    let document_weight = weight_of("application/nostr+json", headers);
    let page_weight = weight_of("text/html", headers);
    let mut page = match *method {
        // A preflight: NIP-11 asks for the CORS headers, and the document may be asked for with any header.
        Method::OPTIONS => {
            let mut page = HttpResponse::new(Full::default());
            *page.status_mut() = StatusCode::NO_CONTENT;
            set(&mut page, header::ALLOW, "GET, HEAD, OPTIONS");
            page
        }
        Method::GET | Method::HEAD if document_weight > 0 && document_weight >= page_weight => {
            let mut page = HttpResponse::new(Full::new(information.clone()));
            set(&mut page, header::CONTENT_TYPE, "application/nostr+json");
            page
        }
        Method::GET | Method::HEAD if page_weight > 0 => {
            let mut page = HttpResponse::new(Full::new(Bytes::from(landing::page(information, url().as_deref()))));
            set(&mut page, header::CONTENT_TYPE, "text/html; charset=utf-8");
            set(&mut page, header::CONTENT_SECURITY_POLICY, landing::CONTENT_SECURITY_POLICY);
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
pub(super) fn set(page: &mut HttpResponse, name: header::HeaderName, value: &'static str) {
    page.headers_mut().insert(name, HeaderValue::from_static(value));
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
}
