//! Shows what the cache holds, and lets an operator purge it.

use super::context::PageContext;
use crate::cache::{Cache, HotEntry, Purge, ReaderClass};
use crate::config::{Secret, percent_decode};
use crate::telemetry::CacheLayer;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How many filters the page shows.
const MAX_SHOWN_FILTERS: usize = 50;
/// The most characters of a filter that are shown.
const MAX_FILTER_CHARS: usize = 400;

pub(super) fn routes() -> Router<PageContext> {
    Router::new().route("/cache.json", get(show)).route("/cache/purge", post(purge))
}

async fn show(State(context): State<PageContext>) -> Response {
    match context.health.cache() {
        Some(cache) => Json(describe(cache)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": "the cache is off, or still starting" })))
            .into_response(),
    }
}

/// Describes the layers, and the filters that have saved most time.
fn describe(cache: &Cache) -> Value {
    let facts = cache.facts();
    let rate = |wanted| cache.last_hit_rates().iter().find(|(layer, _)| *layer == wanted).map(|(_, rate)| *rate);
    let l1 = json!({
        "hit_rate": rate(CacheLayer::L1),
        "entries": facts.entries,
        "bytes": facts.bytes,
        "max_bytes": cache.max_bytes(),
        "evictions": facts.evictions,
    });
    let l2 = cache.shared_layer().status().map(|status| json!({ "hit_rate": rate(CacheLayer::L2), "traffic": status }));
    let hottest: Vec<Value> = cache.hottest(MAX_SHOWN_FILTERS).iter().map(describe_filter).collect();
    json!({ "l1": l1, "l2": l2, "hottest": hottest })
}

fn describe_filter(hot: &HotEntry) -> Value {
    let readers = match hot.key.reader {
        ReaderClass::Everyone => "anybody",
        ReaderClass::Unauthenticated(_) => "not authenticated",
    };
    let asked = hot.hits + hot.reads;
    json!({
        "filter": hot.key.query.to_string().chars().take(MAX_FILTER_CHARS).collect::<String>(),
        "readers": readers,
        "hits": hot.hits,
        "hit_rate": if asked == 0 { 0.0 } else { hot.hits as f64 / asked as f64 },
        "rows": hot.rows,
        "bytes": hot.bytes,
        "read_seconds": hot.cost.as_secs_f64(),
        "saved_seconds": hot.saved().as_secs_f64(),
    })
}

/// `POST /cache/purge?all`, `?author=HEX` or `?filter=JSON` (percent-encoded): drops entries on this instance at once,
/// on the others within about a quarter of a second.
async fn purge(State(context): State<PageContext>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(refused) = refusal(&context.token, &headers) {
        return refused;
    }
    let purge = percent_decode(uri.query().unwrap_or_default()).map(|text| text.parse::<Purge>());
    let purge = match purge {
        Some(Ok(purge)) => purge,
        Some(Err(error)) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        None => return refuse(StatusCode::BAD_REQUEST, "a percent sign escapes nothing"),
    };

    let Some(cache) = context.health.cache() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "there is no cache");
    };
    // The shared layer first: else this instance could fetch a purged entry back from it.
    let everywhere = cache.shared_layer().purge(&purge).await;
    let entries = cache.purge(&purge);
    tracing::info!(%purge, entries, everywhere, "the cache was purged");
    Json(json!({ "entries": entries, "instances": if everywhere { "all" } else { "this one" } })).into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

/// The refusal of a request that does not carry the token. Compares digests, whose bytes no client can choose: so the
/// time of the comparison reveals nothing about the token.
fn refusal(token: &Secret, headers: &HeaderMap) -> Option<Response> {
    if token.is_empty() {
        return Some(refuse(StatusCode::FORBIDDEN, "set admin.token (RELAY_ADMIN_TOKEN) to allow this"));
    }
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token.expose())) {
        return None;
    }
    let mut refused = refuse(StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer TOKEN");
    refused.headers_mut().insert(WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
    Some(refused)
}
