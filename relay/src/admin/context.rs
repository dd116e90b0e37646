//! The state that the pages of the admin listener share.

use super::health::Health;
use super::history::ChartHistory;
use crate::config::Secret;
use crate::task::Tasks;
use crate::telemetry::Exporter;
use axum::http::Uri;
use std::sync::Arc;
use tokio::runtime::Handle;

/// What the pages read.
#[derive(Clone)]
pub(super) struct PageContext {
    pub(super) health: Arc<Health>,
    pub(super) exporter: Arc<Exporter>,
    pub(super) history: Arc<ChartHistory>,
    /// The admin listeners of other instances, host and port.
    pub(super) peers: Arc<[String]>,
    /// The token that a request must carry to change something.
    pub(super) token: Secret,
    /// Whether stacks may be sampled.
    pub(super) pprof: bool,
    /// The runtime that serves clients.
    pub(super) runtime: Option<Handle>,
    pub(super) tasks: Tasks,
    /// A random number that identifies this process among all instances.
    pub(super) id: u64,
}

/// The number after `name=` in the query of `uri`; `None` where it is missing or no number.
pub(super) fn query_number(uri: &Uri, name: &str) -> Option<u64> {
    query_text(uri, name)?.parse().ok()
}

/// What the query of `uri` gives as `name`, as it stands there.
pub(super) fn query_text<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}
