//! Plain http beside https: answers the challenges of an ACME authority (HTTP-01), and redirects everything else to
//! https.

use super::certificates::{Certificates, Challenges};
use crate::task::Tasks;
use crate::telemetry::Task;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The most connections at the same time; each is short.
const MAX_CONNECTIONS: usize = 256;

/// The longest time from accepting a connection to its end.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time for the headers of the request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes of a request's headers.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The pause after a failed accept.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(200);

/// The path at which an authority looks (RFC 8555, 8.3).
const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// The state from which requests are answered.
pub(super) struct Redirects {
    pub(super) challenges: Arc<Challenges>,
    pub(super) certificates: Arc<Certificates>,
    /// The port of https, as clients reach it.
    pub(super) https_port: u16,
    pub(super) tasks: Tasks,
}

/// Serves as long as it is polled; each connection ends by itself within a few seconds.
pub(super) async fn serve(listener: Arc<TcpListener>, redirects: Arc<Redirects>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let redirects = redirects.clone();
                redirects.tasks.clone().spawn(Task::RedirectConnection, async move {
                    let _ = timeout(CONNECTION_TIMEOUT, answer(stream, &redirects)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "no http connection can be accepted");
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, redirects: &Redirects) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = redirects.answer(request.uri().path(), request.uri().path_and_query(), request.headers());
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER_BYTES).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "an http request went wrong");
    }
}

impl Redirects {
    fn answer(
        &self,
        path: &str,
        path_and_query: Option<&hyper::http::uri::PathAndQuery>,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        if let Some(token) = path.strip_prefix(CHALLENGE_PATH) {
            return match self.challenges.text(token) {
                Some(text) => page(StatusCode::OK, text),
                None => page(StatusCode::NOT_FOUND, "there is no such challenge\n".to_owned()),
            };
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).and_then(|host| self.host(host));
        let Some(host) = host else {
            return page(
                StatusCode::BAD_REQUEST,
                "this port sends to https, but the request names no known host\n".to_owned(),
            );
        };
        let port = if self.https_port == 443 { String::new() } else { format!(":{}", self.https_port) };
        let rest = path_and_query.map_or("/", |rest| rest.as_str());
        let location = HeaderValue::try_from(format!("https://{host}{port}{rest}"));
        let mut page = page(StatusCode::PERMANENT_REDIRECT, "connect with wss:// (or https://)\n".to_owned());
        if let Ok(location) = location {
            page.headers_mut().insert(LOCATION, location);
        }
        page
    }

    /// The host of a `Host` header, if a certificate covers it: redirects go to no other host.
    fn host(&self, header: &str) -> Option<String> {
        let host = match header.strip_prefix('[') {
            Some(v6) => v6.split_once(']')?.0,
            None => header.split(':').next()?,
        };
        let host = host.to_ascii_lowercase();
        let is_known = self.certificates.all().iter().any(|certificate| certificate.covers(&host));
        let shown = if host.contains(':') { format!("[{host}]") } else { host };
        is_known.then_some(shown)
    }
}

fn page(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(Bytes::from(text)));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    page.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificate::Certificate;
    use rcgen::{CertificateParams, KeyPair};

    fn redirects(https_port: u16) -> Redirects {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["relay.example".to_owned(), "::1".to_owned()]).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let certificates = Certificates::new(1);
        certificates.set(0, Certificate::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap());
        Redirects {
            challenges: Arc::default(),
            certificates: Arc::new(certificates),
            https_port,
            tasks: Tasks::detached(),
        }
    }

    fn get(redirects: &Redirects, host: &'static str, target: &'static str) -> (u16, Option<String>) {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        let target = hyper::http::uri::PathAndQuery::from_static(target);
        let page = redirects.answer(target.path(), Some(&target), &headers);
        let location = page.headers().get(LOCATION).map(|location| location.to_str().unwrap().to_owned());
        (page.status().as_u16(), location)
    }

    #[test]
    fn a_challenge_is_answered_while_it_is_shown() {
        let redirects = redirects(443);
        redirects.challenges.show_text("token", "token.thumb");
        let path = "/.well-known/acme-challenge/token";
        assert_eq!(get(&redirects, "whatever", path), (200, None));
        redirects.challenges.clear("relay.example", "token");
        assert_eq!(get(&redirects, "whatever", path), (404, None));
    }

    #[test]
    fn everything_else_is_sent_to_https_of_a_known_name() {
        let location = |text: &str| (308, Some(text.to_owned()));
        assert_eq!(get(&redirects(443), "Relay.example", "/a?b=c"), location("https://relay.example/a?b=c"));
        assert_eq!(get(&redirects(8443), "relay.example:8080", "/"), location("https://relay.example:8443/"));
        assert_eq!(get(&redirects(443), "[::1]:80", "/"), location("https://[::1]/"));
        for host in ["evil.example", "", "relay.example.evil.example", "[::1"] {
            assert_eq!(get(&redirects(443), host, "/"), (400, None), "{host}");
        }
    }
}
