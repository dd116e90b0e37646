//! The dashboard: a page that draws what this instance and its peers measure. The page and all it needs are part of this
//! program; it asks nobody else for anything.

use super::health::{About, Dependency, Fault, Health, Readiness};
use super::history::History;
use super::pages::{Shared, asked};
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

/// Nothing from elsewhere, nothing inline, nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
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
pub(super) fn routes() -> Router<Shared> {
    let files = FILES.iter().fold(Router::new(), |router, &(path, media_type, text)| {
        router.route(path, get(async move || ([(CONTENT_TYPE, media_type)], text)))
    });
    files.route("/dashboard.json", get(own)).route("/cluster.json", get(cluster))
}

/// The headers that keep the page to itself.
pub(super) fn guard(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// `?since=`, in milliseconds since 1970: only later points are wanted. 0 where it is not asked for.
fn since(uri: &Uri) -> u64 {
    asked(uri, "since").unwrap_or(0)
}

async fn own(State(shared): State<Shared>, uri: Uri) -> Response {
    Json(describe(&shared, since(&uri))).into_response()
}

/// This instance and its peers, in this order.
async fn cluster(State(shared): State<Shared>, uri: Uri) -> Response {
    let since = since(&uri);
    let mut instances = vec![describe(&shared, since)];
    let others = peers::ask(&shared.peers, &format!("/dashboard.json?since={since}")).await;
    // A list of peers may be the same for all, and then names this instance too.
    let own = instances.first().and_then(|own| own.get("id")).cloned();
    instances.extend(others.into_iter().filter(|other| other.get("id") != own.as_ref() || own.is_none()));
    Json(json!({ "panels": PANELS, "instances": instances })).into_response()
}

fn describe(shared: &Shared, since: u64) -> Value {
    let About { listen, store, started } = shared.health.about();
    let notes = &shared.exporter.metrics().notes;
    json!({
        "id": shared.id,
        "name": listen,
        "version": env!("CARGO_PKG_VERSION"),
        "store": store,
        "started": seconds(started),
        "now": millis(),
        "health": health(&shared.health),
        "nodes": shared.health.nodes(),
        "slow_queries": notes.slow_queries(),
        "talkers": notes.talkers(),
        "points": shared.history.since(since),
    })
}

/// The instance's state, what is broken in it, and how that is which it shares with others.
pub(super) fn health(health: &Health) -> Value {
    let (status, faults) = match health.readiness() {
        Readiness::Ready => ("ready", Vec::new()),
        Readiness::Draining => ("draining", Vec::new()),
        Readiness::Broken(faults) => ("broken", faults),
    };
    json!({
        "status": status,
        "since": seconds(health.phase_since()),
        "seconds": ago(health.phase_since()),
        "faults": faults.iter().map(describe_fault).collect::<Vec<_>>(),
        "dependencies": health.dependencies().iter().map(describe_dependency).collect::<Vec<_>>(),
    })
}

/// `since` as `created_at` counts, and how many seconds ago that was.
fn describe_fault(fault: &Fault) -> Value {
    let (since, ago) = (seconds(fault.since), ago(fault.since));
    json!({ "part": fault.part, "message": fault.message, "since": since, "seconds": ago })
}

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
pub(super) fn record(history: &History, metrics: &str) {
    history.record(metrics, millis(), Instant::now());
}
