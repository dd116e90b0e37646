//! From a byte stream to a WebSocket: where the client comes from, what its HTTP request wants, and the opening
//! handshake (RFC 6455, 4.2). hyper and all its buffers are freed afterwards.

use super::forwarded;
use super::handshake::{self, Rejection};
use super::pages::{self, HttpResponse};
use crate::connection::context::ListenerContext;
use crate::connection::origin::ClientOrigin;
use crate::connection::settings::ConnectionSettings;
use crate::connection::stream::ClientStream;
use crate::policy::RelayUrl;
use crate::telemetry::ConnectionOutcome;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

/// The most bytes of a request's headers.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// How long the headers may take where the address has too many connections: the request is refused anyway.
const REFUSED_HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// A client whose handshake is done.
pub(in crate::connection) struct Upgraded {
    /// The bare stream.
    pub(in crate::connection) stream: ClientStream,
    /// The bytes behind the request: the beginning of the first frames.
    pub(in crate::connection) leftover: Bytes,
    /// Where the client comes from.
    pub(in crate::connection) origin: ClientOrigin,
}

/// Serves one HTTP request and returns the WebSocket if that is what became of it. The caller sets a deadline.
pub(in crate::connection) async fn handshake(
    stream: ClientStream,
    peer: IpAddr,
    context: &ListenerContext,
    settings: &ConnectionSettings,
) -> Option<Upgraded> {
    // Behind a proxy the request tells whose connection it is, and the slot is taken then.
    let max_per_address = settings.max_connections_per_address;
    let address_slot = match settings.trusts(peer) {
        true => None,
        false => Some(context.slots.enter_from(peer, max_per_address)),
    };
    // A client that gets no slot is told so, but must ask quickly.
    let header_timeout = match &address_slot {
        Some(None) => settings.header_timeout.min(REFUSED_HEADER_TIMEOUT),
        _ => settings.header_timeout,
    };

    let (local_address, is_tls) = (stream.local_address(), stream.is_tls());
    let address_slot = Mutex::new(address_slot);
    let upgrade = Mutex::new(None);
    let serve = |mut request: Request<Incoming>| {
        let headers = request.headers();
        let client = || {
            let address = forwarded::client_address(headers, peer, settings);
            let slot =
                address_slot.lock().take().unwrap_or_else(|| context.slots.enter_from(address, max_per_address))?;
            let relay_url = forwarded::relay_url(headers, peer, is_tls, settings).filter(|url| {
                let own = |url: RelayUrl| url.is_surely_own(local_address);
                settings.public_urls.is_empty() && RelayUrl::parse(url).is_ok_and(own)
            });
            Some(ClientOrigin { address, relay_url, _slot: slot })
        };
        let who = || (forwarded::client_address(headers, peer, settings), shown_url(headers, peer, is_tls, settings));
        let (mut page, client) = answer(&request, context, who, client);
        match client {
            Some(client) => *upgrade.lock() = Some((hyper::upgrade::on(&mut request), client)),
            // One request a connection. hyper's own setting would close upgraded ones as well.
            None => pages::set(&mut page, header::CONNECTION, "close"),
        }
        std::future::ready(Ok::<_, Infallible>(page))
    };

    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(MAX_HEADER_BYTES);
    let served = http.serve_connection(TokioIo::new(stream), service_fn(serve)).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "an HTTP request went wrong");
    }
    let (upgrade, origin): (OnUpgrade, ClientOrigin) = upgrade.into_inner()?;
    let parts = upgrade.await.ok()?.downcast::<TokioIo<ClientStream>>().ok()?;
    Some(Upgraded { stream: parts.io.into_inner(), leftover: parts.read_buf, origin })
}

/// The relay's URL for people: the configured one, else the one by which the client has reached the relay.
fn shown_url(headers: &HeaderMap, peer: IpAddr, is_tls: bool, settings: &ConnectionSettings) -> Option<Box<str>> {
    let configured = Some(settings.shown_url.clone()).filter(|url| !url.is_empty());
    configured.or_else(|| forwarded::relay_url(headers, peer, is_tls, settings))
}

/// The answer to a request, and the client where the connection becomes a WebSocket. `client` gives nothing where its
/// address has too many connections.
fn answer(
    request: &Request<Incoming>,
    context: &ListenerContext,
    who: impl Fn() -> (IpAddr, Option<Box<str>>),
    client: impl FnOnce() -> Option<ClientOrigin>,
) -> (HttpResponse, Option<ClientOrigin>) {
    let services = &context.services;
    let headers = request.headers();
    let reject = |(status, words): Rejection| {
        context.refuse(who().0, ConnectionOutcome::Handshake);
        let mut page = pages::text(status, words);
        if status == StatusCode::UPGRADE_REQUIRED {
            pages::set(&mut page, header::SEC_WEBSOCKET_VERSION, "13");
            pages::set(&mut page, header::UPGRADE, "websocket");
        }
        (page, None)
    };

    if let Err(rejection) = handshake::check_host(request) {
        return reject(rejection);
    }
    if request.uri().path() != "/" {
        return (pages::text(StatusCode::NOT_FOUND, "there is nothing here, the relay is at /\n"), None);
    }
    if !handshake::wants_websocket(headers) {
        return (pages::root(request.method(), headers, &services.information.load(), || who().1), None);
    }
    let accept = match handshake::check_handshake(request) {
        Ok(accept) => accept,
        Err(rejection) => return reject(rejection),
    };

    if services.shutdown.is_draining() {
        context.refuse(who().0, ConnectionOutcome::Draining);
        return (pages::retry_later(StatusCode::SERVICE_UNAVAILABLE, "the relay is shutting down\n"), None);
    }
    let Some(client) = client() else {
        context.refuse(who().0, ConnectionOutcome::AddressFull);
        return (pages::retry_later(StatusCode::TOO_MANY_REQUESTS, "too many connections from your address\n"), None);
    };
    let mut page = pages::text(StatusCode::SWITCHING_PROTOCOLS, "");
    page.headers_mut().remove(header::CONTENT_TYPE);
    pages::set(&mut page, header::CONNECTION, "upgrade");
    pages::set(&mut page, header::UPGRADE, "websocket");
    page.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    (page, Some(client))
}
