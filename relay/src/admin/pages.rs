//! The routes of the admin listener; any other path is 404. A request changes something only with the operator's token.

use super::context::PageContext;
use super::health::Readiness;
use super::{cache, dashboard, debug};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::net::IpAddr;

/// The pages. With `local` it answers only requests whose host is an address or `localhost`: a web page whose domain
/// was made to resolve to this machine (DNS rebinding) gets nothing.
pub(super) fn router(context: PageContext, local: bool) -> Router {
    let pages = dashboard::routes()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/nodes", get(async |State(context): State<PageContext>| Json(context.health.nodes())))
        .route("/metrics", get(metrics))
        .merge(cache::routes())
        .merge(debug::routes())
        .with_state(context);
    let pages = if local { pages.layer(from_fn(only_local_names)) } else { pages };
    pages.layer(from_fn(with_security_headers))
}

async fn live(State(context): State<PageContext>) -> Response {
    match context.health.stuck_for() {
        None => Json(json!({ "status": "live" })).into_response(),
        Some(silence) => {
            let body = Json(json!({ "status": "stuck", "seconds": silence.as_secs() }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// Shows the dependencies, which do not change the status: else a load balancer would take all instances of one
/// database out at once.
async fn ready(State(context): State<PageContext>) -> Response {
    let status = match context.health.readiness().0 {
        Readiness::Starting => StatusCode::SERVICE_UNAVAILABLE,
        Readiness::Ready => StatusCode::OK,
        Readiness::Draining => StatusCode::NOT_FOUND,
    };
    (status, Json(dashboard::health(&context.health))).into_response()
}

async fn metrics(State(context): State<PageContext>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], context.exporter.render()).into_response()
}

async fn with_security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    dashboard::set_security_headers(&mut response);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn only_local_names(request: Request, next: Next) -> Response {
    if names_this_machine(request.headers()) { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

/// True where the Host header is an IP address or `localhost`, or is missing: every browser sends one.
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
