//! Servers that lag, stop, die and change their roles under a store on PostgreSQL. Each test has its control: the same
//! with the safeguard ablated.

#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

#[path = "../kit/mod.rs"]
mod clients;
mod explain;
mod failover;
mod kit;
mod large;
mod limits;
mod maintenance;
mod operator;
mod replicas;
#[path = "../store_kit/mod.rs"]
mod store_kit;
mod wire;
