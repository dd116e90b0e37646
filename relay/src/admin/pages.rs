//! What each path answers. GET only; a path that is not here is 404.

use super::health::{Fault, Health, Readiness};
use crate::telemetry::Exporter;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone)]
struct Shared {
    health: Arc<Health>,
    exporter: Arc<Exporter>,
}

const INDEX: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Skein</title><h1>Skein</h1><ul>\
    <li><a href=/live>/live</a>: 200 while the relay runs, 503 once it is stuck\
    <li><a href=/ready>/ready</a>: 200 to be sent clients, 404 while draining, 503 and why when broken\
    <li><a href=/nodes>/nodes</a>: the database servers, their roles, lag and connections\
    <li><a href=/metrics>/metrics</a>: for Prometheus</ul>";

/// The pages. `local` answers only requests that name an address of this machine: a web page that made its own name
/// point to this machine ("DNS rebinding") gets nothing.
pub(super) fn router(health: Arc<Health>, exporter: Arc<Exporter>, local: bool) -> Router {
    let pages = Router::new()
        .route("/", get(async || Html(INDEX)))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/nodes", get(async |State(shared): State<Shared>| Json(shared.health.nodes())))
        .route("/metrics", get(metrics))
        .with_state(Shared { health, exporter });
    let pages = if local { pages.layer(from_fn(only_local_names)) } else { pages };
    pages.layer(from_fn(no_store))
}

async fn live(State(shared): State<Shared>) -> Response {
    match shared.health.stuck_for() {
        None => (StatusCode::OK, "live\n").into_response(),
        Some(silence) => {
            let body = format!("stuck: nothing has moved for {} s\n", silence.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    match shared.health.readiness() {
        Readiness::Ready => (StatusCode::OK, Json(json!({ "status": "ready" }))).into_response(),
        Readiness::Draining => (StatusCode::NOT_FOUND, Json(json!({ "status": "draining" }))).into_response(),
        Readiness::Broken(faults) => {
            let faults: Vec<_> = faults.iter().map(describe).collect();
            let body = Json(json!({ "status": "broken", "faults": faults }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// `since` as `created_at` counts, and how many seconds ago that was.
fn describe(fault: &Fault) -> Value {
    let since = fault.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = SystemTime::now().duration_since(fault.since).unwrap_or_default().as_secs();
    json!({ "part": fault.part, "message": fault.message, "since": since, "seconds": seconds })
}

async fn metrics(State(shared): State<Shared>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.exporter.render()).into_response()
}

async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
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
