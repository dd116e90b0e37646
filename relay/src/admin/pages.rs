//! What each path answers; a path that is not here is 404. Only with the operator's token does any change anything.

use super::debug;
use super::health::{Health, Readiness};
use super::history::History;
use super::{cache, dashboard};
use crate::config::Secret;
use crate::telemetry::Exporter;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::runtime::Handle;

/// What the pages tell about.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) health: Arc<Health>,
    pub(super) exporter: Arc<Exporter>,
    pub(super) history: Arc<History>,
    /// The admin listeners of other instances, host and port.
    pub(super) peers: Arc<[String]>,
    /// What allows a request to change something.
    pub(super) token: Secret,
    /// Whether stacks may be sampled.
    pub(super) pprof: bool,
    /// Of the runtime that serves clients.
    pub(super) runtime: Option<Handle>,
    /// Tells this process from every other.
    pub(super) id: u64,
}

/// The pages. `local` answers only requests that name an address of this machine: a web page that made its own name
/// point to this machine ("DNS rebinding") gets nothing.
pub(super) fn router(shared: Shared, local: bool) -> Router {
    let pages = dashboard::routes()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/nodes", get(async |State(shared): State<Shared>| Json(shared.health.nodes())))
        .route("/metrics", get(metrics))
        .merge(cache::routes())
        .merge(debug::routes())
        .with_state(shared);
    let pages = if local { pages.layer(from_fn(only_local_names)) } else { pages };
    pages.layer(from_fn(guarded))
}

/// The number that `?name=` gives.
pub(super) fn asked(uri: &Uri, name: &str) -> Option<u64> {
    let parts = uri.query()?.split('&');
    parts.filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name)?.1.parse().ok()
}

async fn live(State(shared): State<Shared>) -> Response {
    match shared.health.stuck_for() {
        None => Json(json!({ "status": "live" })).into_response(),
        Some(silence) => {
            let body = Json(json!({ "status": "stuck", "seconds": silence.as_secs() }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// What is shared is told, and decides nothing: with one database for all, every instance would be taken away at once.
async fn ready(State(shared): State<Shared>) -> Response {
    let status = match shared.health.readiness() {
        Readiness::Ready => StatusCode::OK,
        Readiness::Draining => StatusCode::NOT_FOUND,
        Readiness::Broken(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(dashboard::health(&shared.health))).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.exporter.render()).into_response()
}

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    dashboard::guard(&mut response);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn only_local_names(request: Request, next: Next) -> Response {
    if names_this_machine(request.headers()) { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

/// True where the Host header is an IP address or `localhost`. A request without one is no browser's.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let host = host.to_str().unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_name_this_machine() {
        let named =
            |host: &'static str| names_this_machine(&HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]));
        for host in ["127.0.0.1:7778", "127.0.0.1", "localhost:7778", "LOCALHOST", "[::1]:7778", "[::1]"] {
            assert!(named(host), "{host}");
        }
        for host in ["evil.example", "evil.example:7778", "localhost.evil.example", "127.0.0.1.evil.example:80", ""] {
            assert!(!named(host), "{host}");
        }
        assert!(names_this_machine(&HeaderMap::new()));
    }
}
