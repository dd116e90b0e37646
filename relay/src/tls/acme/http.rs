//! How an authority is asked: https with a bound on time and size, and a memory of what it said last, for people.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, rustls};

/// One request, from the look-up of the name to the last byte of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer: a chain has some 6 KB.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// How much of an answer that makes no sense is shown.
const SHOWN_CHARS: usize = 300;

/// The longest that an authority can make us wait.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Asks an authority. Cheap to clone.
#[derive(Clone)]
pub(super) struct AuthorityClient {
    tls: TlsConnector,
    last: Arc<Mutex<Option<Complaint>>>,
}

/// An answer that was no success.
#[derive(Debug, Clone)]
pub(super) struct Complaint {
    status: StatusCode,
    /// The beginning of what it said, in characters that a terminal bears.
    text: String,
    /// How long it wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}: {}", self.status, self.text)
    }
}

impl AuthorityClient {
    /// Trusts `root` where it is given, else what the system trusts.
    ///
    /// # Errors
    /// There is no root to trust.
    pub(super) fn new(root: Option<&Path>) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        match root {
            Some(path) => {
                let unreadable = |error: &dyn std::fmt::Display| {
                    io::Error::other(format!("tls.acme_root: {}: no root certificate in PEM: {error}", path.display()))
                };
                for root in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
                    let root = root.map_err(|error| unreadable(&error))?;
                    roots.add(root).map_err(|error| unreadable(&error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(io::Error::other(
                "there is no root certificate to know the authority by: install ca-certificates, or set tls.acme_root",
            ));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), last: Arc::default() })
    }

    /// The last answer that was no success, since the last time this was asked.
    pub(super) fn take_complaint(&self) -> Option<Complaint> {
        self.last.lock().take()
    }

    async fn send(&self, mut request: Request<BodyWrapper<Bytes>>) -> io::Result<Response<Full<Bytes>>> {
        let uri = request.uri().clone();
        let (host, port) = host_and_port(&uri)?;
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
        let stream = self.tls.connect(name, tcp).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the answer: the sender is dropped then.
        let connection = tokio::spawn(connection);
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority).map_err(io::Error::other)?);
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        let (parts, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
        drop(sender);
        connection.abort();
        if !parts.status.is_success() {
            let retry_after = retry_after(&parts.headers, SystemTime::now());
            *self.last.lock() = Some(Complaint { status: parts.status, text: shown(&body), retry_after });
        }
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}

impl HttpClient for AuthorityClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            debug_assert!(request.body().size_hint().exact().is_some(), "a request's length is known");
            let uri = request.uri().clone();
            let failed = |error: io::Error| Error::Other(format!("{uri}: {error}").into());
            let late = |_| failed(io::Error::other(format!("no answer within {REQUEST_TIMEOUT:?}")));
            let answer = timeout(REQUEST_TIMEOUT, client.send(request)).await.map_err(late)?.map_err(failed)?;
            Ok(BytesResponse::from(answer))
        })
    }
}

fn host_and_port(uri: &Uri) -> io::Result<(&str, u16)> {
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(host)) => Ok((host, uri.port_u16().unwrap_or(443))),
        _ => Err(io::Error::other("the authority names an address that is not https")),
    }
}

/// `Retry-After` as a time from now on: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = plain.take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push_str(" ...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait_is_read_as_seconds_and_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 3 ", Some(3)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("99999999999", Some(MAX_RETRY_AFTER.as_secs())),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn what_is_shown_of_an_answer_is_short_and_tame() {
        assert_eq!(shown(b"<html>\n\x1b[31m502"), "<html>  [31m502");
        let long = shown(&[b'x'; 10_000]);
        assert_eq!(long.len(), SHOWN_CHARS + 4);
    }

    #[test]
    fn only_https_is_asked() {
        let check = |text: &'static str| host_and_port(&Uri::from_static(text)).is_ok();
        assert!(check("https://ca.example/dir") && check("https://[::1]:14000/dir"));
        assert!(!check("http://ca.example/dir") && !check("/dir"));
    }
}
