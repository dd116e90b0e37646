//! A cluster as an operator has it, through HAProxy. A crowd of clients keeps transcripts while instances are killed,
//! drained, rolled and scaled, HAProxy is reloaded and killed, and Redis, a replica and the primary die. Afterwards
//! every transcript is compared with the log: the union over reconnects is complete, nothing is doubled.

#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)] // the cluster's tests use the rest
#[path = "../cluster/clients.rs"]
mod clients;
mod faults;
mod filters;
#[allow(dead_code)] // other tests use the rest
#[path = "../clients/installed.rs"]
mod installed;
#[path = "../kit/mod.rs"]
mod kit;
mod libraries;
#[path = "../journey_oracle/oracle.rs"]
mod oracle;
#[allow(dead_code)] // the cluster's tests use the rest
#[path = "../cluster/run.rs"]
mod run;
mod stage;
#[allow(dead_code)] // the cluster's tests use the rest
#[path = "../cluster/verdict.rs"]
mod verdict;
mod watch;
#[allow(dead_code)] // the cluster's tests use the rest
#[path = "../cluster/world.rs"]
mod world;
