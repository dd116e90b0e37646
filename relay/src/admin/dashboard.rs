//! The dashboard: a page with charts of what this instance and its peers measure. The page and all its files are
//! embedded in this program; it loads nothing from other hosts.

use super::context::{PageContext, query_number};
use super::health::{About, Dependency, Health, Readiness};
use super::history::ChartHistory;
use super::panels::PANELS;
use super::peers;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Allows no other origin and nothing inline; no page may frame this one.
const SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Every file of the page: path, media type, text.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("../../assets/dashboard.html")),
    ("/assets/dashboard.css", "text/css; charset=utf-8", include_str!("../../assets/dashboard.css")),
    ("/assets/dashboard.js", "text/javascript; charset=utf-8", include_str!("../../assets/dashboard.js")),
    ("/assets/uPlot.css", "text/css; charset=utf-8", include_str!("../../assets/uPlot.min.css")),
    ("/assets/uPlot.js", "text/javascript; charset=utf-8", include_str!("../../assets/uPlot.iife.min.js")),
    ("/assets/icon.svg", "image/svg+xml", include_str!("../../assets/icon.svg")),
];

/// The page, its files and its data.
pub(super) fn routes() -> Router<PageContext> {
    let files = FILES.iter().fold(Router::new(), |router, &(path, media_type, text)| {
        router.route(path, get(async move || ([(CONTENT_TYPE, media_type)], text)))
    });
    files.route("/dashboard.json", get(own)).route("/cluster.json", get(cluster))
}

/// Adds the headers that keep other pages from scripting, framing or reading this one.
pub(super) fn set_security_headers(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SECURITY_POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// `?since=`, in milliseconds since 1970: the client has the points up to then. 0 without the parameter.
fn since(uri: &Uri) -> u64 {
    query_number(uri, "since").unwrap_or(0)
}

async fn own(State(context): State<PageContext>, uri: Uri) -> Response {
    Json(describe(&context, since(&uri))).into_response()
}

/// This instance and its peers, in this order.
async fn cluster(State(context): State<PageContext>, uri: Uri) -> Response {
    let since = since(&uri);
    let mut instances = vec![describe(&context, since)];
    let others = peers::ask(&context.peers, &format!("/dashboard.json?since={since}")).await;
    // An operator may give all instances the same list of peers, which then names this instance too.
    let own = instances.first().and_then(|own| own.get("id")).cloned();
    instances.extend(others.into_iter().filter(|other| other.get("id") != own.as_ref() || own.is_none()));
    Json(json!({ "panels": PANELS, "instances": instances })).into_response()
}

fn describe(context: &PageContext, since: u64) -> Value {
    let About { listen, store, started } = context.health.about();
    let notes = &context.exporter.metrics().notes;
    json!({
        "id": context.id,
        "name": listen,
        "version": env!("CARGO_PKG_VERSION"),
        "store": store,
        "started": seconds(started),
        "now": millis(),
        "health": health(&context.health),
        "nodes": context.health.nodes(),
        "slow_queries": notes.slow_queries(),
        "talkers": notes.talkers(),
        "points": context.history.since(since),
    })
}

/// The instance's state, and the states of its dependencies.
pub(super) fn health(health: &Health) -> Value {
    let (readiness, since) = health.readiness();
    let status = match readiness {
        Readiness::Starting => "starting",
        Readiness::Ready => "ready",
        Readiness::Draining => "draining",
    };
    json!({
        "status": status,
        "since": seconds(since),
        "seconds": ago(since),
        "dependencies": health.dependencies().iter().map(describe_dependency).collect::<Vec<_>>(),
    })
}

/// `since` is in seconds since 1970; `seconds` is how long ago that was.
fn describe_dependency(dependency: &Dependency) -> Value {
    let Dependency { name, state, works, since } = dependency;
    json!({ "name": name, "state": state, "works": works, "since": seconds(*since), "seconds": ago(*since) })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn ago(time: SystemTime) -> u64 {
    SystemTime::now().duration_since(time).unwrap_or_default().as_secs()
}

fn millis() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Adds a point to the history.
pub(super) fn record(history: &ChartHistory, metrics: &str) {
    history.record(metrics, millis(), Instant::now());
}
