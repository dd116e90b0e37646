//! One client's life: accepted, upgraded to a WebSocket, served, and seen off.
//!
//! ```text
//! listener ──► upgrade ──► client: reading ──► session ──► ingest, queries
//!                                  writing ◄── outbox ◄────┘
//! ```
//!
//! A connection is one task; only its queries run beside it. Everything about it is bounded: what is read ahead (one
//! message), what it is owed ([`ConnectionSettings::max_pending_replies`]), what waits to be sent (the outbox, and
//! the socket's own buffer), and how long each step may take (the `clock`).

mod alarm;
mod client;
mod clock;
mod forwarded;
mod frames;
mod landing;
mod listener;
mod pages;
mod proxy;
mod rate;
mod reading;
mod reason;
mod refused;
mod session;
mod settings;
mod shutdown;
mod slots;
mod socket;
mod subscriptions;
mod upgrade;
mod writing;

pub use listener::Listener;
pub use settings::{ConnectionSettings, Rate};
pub use shutdown::{Shutdown, ShutdownTrigger, shutdown};

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
