//! The shared store: one PostgreSQL primary and any number of streaming replicas, through sqlx.
//!
//! - `store`: the trait's calls, each on a connection to the right server.
//! - `nodes`: the servers, which of them is the primary, which serve reads, and their pools; `warm`: the statements
//!   that warm a new connection.
//! - `planner`: chooses the form of a read; `plan`, `read`, `count`, `lookup`, `rows`: its statement, and reading the
//!   answer.
//! - `explain`: how a server answers a read, for `relay explain`.
//! - `options`; `error`: SQLSTATE translated and classified.
//! - `schema`: migrations, and the database's hash secret.
//! - `write`: looks a batch up, decides it in memory, and writes it by one call of one database function.
//! - `log`: the shared log; `maintenance`: the leader that makes and drops partitions and removes what is too old;
//!   `inventory`: the list of partitions, for `relay partitions`; `statistics`: the primary's own counters.

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

pub use explain::{ExplainStep, Explanation, IndexUse, ServerInspector, ServerPosition};
pub use inventory::Partition;
pub use maintenance::MaintenanceStatus;
pub use nodes::{Condition, NodeStatus, Role};
pub use options::{Connections, Options};
pub use planner::{PlanCounts, Thresholds};
pub use store::PostgresStore;
