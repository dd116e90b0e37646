//! One client's life: accepted, upgraded to a WebSocket, served, and closed.
//!
//! ```text
//! listening ──► http ──► transport: reading ──► session ──► ingest, queries
//!                                   writing ◄── outbox ◄────┘
//! ```
//!
//! A connection is one task; only its queries run beside it. Everything about it is bounded: what is read ahead (one
//! message), the replies that it is owed ([`ConnectionSettings::max_pending_replies`]), what waits to be sent (the
//! outbox, and the socket's own buffer), and how long each step may take (`transport::deadlines`).
//!
//! `services`, `context`, `settings`, `origin`, `rate` and `stream` hold the types that several of these folders share;
//! they import nothing from them but `listening::{refusals, shutdown, slots}`.

mod context;
mod http;
mod listening;
mod origin;
mod rate;
mod services;
mod session;
mod settings;
mod stream;
mod transport;

pub use listening::listener::Listener;
pub use listening::shutdown::{Shutdown, ShutdownTrigger, shutdown};
pub use services::Services;
pub use settings::{ConnectionSettings, RateLimit};
