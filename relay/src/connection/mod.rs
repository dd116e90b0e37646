//! One client's life: accepted, upgraded to a WebSocket, served, and seen off.
//!
//! ```text
//! listening ──► http ──► transport: reading ──► session ──► ingest, queries
//!                                   writing ◄── outbox ◄────┘
//! ```
//!
//! A connection is one task; only its queries run beside it. Everything about it is bounded: what is read ahead (one
//! message), what it is owed ([`ConnectionSettings::max_pending_replies`]), what waits to be sent (the outbox, and
//! the socket's own buffer), and how long each step may take (`transport::clock`).

mod http;
mod listening;
mod rate;
mod session;
mod settings;
mod transport;

pub use listening::listener::Listener;
pub use listening::shutdown::{Shutdown, ShutdownTrigger, shutdown};
pub use settings::{ConnectionSettings, Rate};

use crate::ingest::Ingest;
use crate::log::Log;
use crate::policy::Rules;
use crate::query::Queries;
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
    /// When to leave.
    pub shutdown: Shutdown,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}
