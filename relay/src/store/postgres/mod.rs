//! The shared store: one PostgreSQL primary and any number of streaming replicas, through sqlx.
//!
//! - `plan`, `read`, `count`, `lookup`: the statement of each of the planner's forms, and what is made of its answer.
//! - `explain`: how a server goes about it, for `relay explain`.
//! - `slow`: the slow-query log.
//! - `options`; `error`: SQLSTATE in our words, and what it says about a server.

#[allow(dead_code, reason = "its callers land one after another")]
mod count;
#[allow(dead_code, reason = "its callers land one after another")]
mod error;
mod explain;
#[allow(dead_code, reason = "its callers land one after another")]
mod lookup;
mod options;
#[allow(dead_code, reason = "its callers land one after another")]
mod plan;
#[allow(dead_code, reason = "its callers land one after another")]
mod read;
#[cfg(test)]
mod server_tests;
mod slow;

pub use explain::{Explanation, IndexUse, Inspector, Step};
pub use options::{Connections, Options};
