//! What connections need of the rest of the relay.

use super::listening::shutdown::Shutdown;
use super::settings::ConnectionSettings;
use crate::ingest::Ingest;
use crate::log::Log;
use crate::memory::ClientMemory;
use crate::policy::Rules;
use crate::query::Queries;
use crate::task::Tasks;
use crate::telemetry::Metrics;
use arc_swap::ArcSwap;
use hyper::body::Bytes;
use std::sync::Arc;

/// What connections work with.
pub struct Services {
    /// Where events go.
    pub ingest: Ingest,
    /// What answers REQs and COUNTs.
    pub queries: Arc<Queries>,
    /// Where subscriptions end and catch up.
    pub log: Arc<Log>,
    /// Who may do what; may be swapped at any time.
    pub rules: Arc<ArcSwap<Rules>>,
    /// What bounds connections; may be swapped at any time.
    pub settings: Arc<ArcSwap<ConnectionSettings>>,
    /// The relay information document (NIP-11), ready to send; may be swapped at any time.
    pub information: Arc<ArcSwap<Bytes>>,
    /// The account of the bytes held for clients.
    pub memory: Arc<ClientMemory>,
    /// Tells when the relay drains its connections.
    pub shutdown: Shutdown,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Watches the tasks of connections and queries.
    pub tasks: Tasks,
}
