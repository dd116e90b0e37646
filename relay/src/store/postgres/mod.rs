//! The shared store: one PostgreSQL primary and any number of streaming replicas, through sqlx.
//!
//! - `options`; `error`: SQLSTATE in our words, and what it says about a server.

#[allow(dead_code, reason = "its callers land one after another")]
mod error;
mod options;

pub use options::{Connections, Options};
