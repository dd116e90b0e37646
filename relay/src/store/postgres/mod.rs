//! The shared store: one PostgreSQL primary and any number of streaming replicas, through sqlx.
//!
//! - `options`; `error`: SQLSTATE in our words, and what it says about a server.
//! - `schema`: migrations and the database's own secret.
//! - `write`: a batch is looked up, decided in memory, and written by one call of one function of the database.
//! - `log`: the log that the database keeps; `partitions`: its days, and the months of the texts.

#[allow(dead_code, reason = "its callers land one after another")]
mod error;
#[allow(dead_code, reason = "its callers land one after another")]
mod log;
mod options;
#[allow(dead_code, reason = "its callers land one after another")]
mod schema;
#[allow(dead_code, reason = "its callers land one after another")]
mod write;

pub use options::{Connections, Options};
