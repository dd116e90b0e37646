//! The shared store: one PostgreSQL primary and any number of streaming replicas, through sqlx.
//!
//! - `plan`, `read`, `count`, `lookup`: the statement of each of the planner's forms, and what is made of its answer.
//! - `slow`: the slow-query log.
//! - `options`; `error`: SQLSTATE in our words, and what it says about a server.
//! - `schema`: migrations and the database's own secret.
//! - `write`: a batch is looked up, decided in memory, and written by one call of one function of the database.
//! - `log`: the log that the database keeps.

#[allow(dead_code, reason = "its callers land one after another")]
mod count;
#[allow(dead_code, reason = "its callers land one after another")]
mod error;
#[allow(dead_code, reason = "its callers land one after another")]
mod log;
#[allow(dead_code, reason = "its callers land one after another")]
mod lookup;
mod options;
#[allow(dead_code, reason = "its callers land one after another")]
mod plan;
#[allow(dead_code, reason = "its callers land one after another")]
mod read;
#[allow(dead_code, reason = "its callers land one after another")]
mod schema;
mod slow;
#[allow(dead_code, reason = "its callers land one after another")]
mod write;

pub use options::{Connections, Options};
