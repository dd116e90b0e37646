//! The shared store: one PostgreSQL primary and any number of streaming replicas, through sqlx.
//!
//! - `store`: the trait's calls, each on a connection to the right server.
//! - `nodes`: the servers: who is the primary, who serves reads, and their pools; `warm`: what a new connection is asked
//!   before its first client.
//! - `plan`, `read`, `count`, `lookup`: the statement of each of the planner's forms, and what is made of its answer.
//! - `explain`: how a server goes about it, for `relay explain`.
//! - `options`; `error`: SQLSTATE in our words, and what it says about a server.
//! - `schema`: migrations and the database's own secret.
//! - `write`: a batch is looked up, decided in memory, and written by one call of one function of the database.
//! - `log`: the log that the database keeps; `partitions`: its days, and the months of the texts; `maintenance`: the one
//!   instance that makes and drops them; `retention`: what is too old leaves; `inventory`: what there is of them, for `relay partitions`.

mod count;
mod error;
mod explain;
mod inventory;
#[cfg(test)]
mod isolation_tests;
mod log;
mod lookup;
mod maintenance;
mod nodes;
mod options;
mod plan;
mod planner;
mod read;
mod rows;
mod schema;
#[cfg(test)]
mod server_tests;
mod statistics;
mod store;
mod warm;
mod write;

pub use explain::{Explanation, IndexUse, Inspector, ServerPosition, Step};
pub use inventory::Partition;
pub use maintenance::MaintenanceStatus;
pub use nodes::{Condition, NodeStatus, Role};
pub use options::{Connections, Options};
pub use planner::{PlanCounts, Thresholds};
pub use store::PostgresStore;
