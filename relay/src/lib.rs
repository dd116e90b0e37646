//! Skein: a Nostr relay that scales horizontally; one log is its thread.
//!
//! The modules stand in the order in which an event travels; `ARCHITECTURE.md` tells the two journeys.

pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod connection;
pub mod ingest;
pub mod link;
pub mod log;
pub mod matcher;
pub mod memory;
pub mod message;
pub mod outbox;
pub mod policy;
pub mod query;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod transfer;
pub mod types;
pub mod verify;

/// The model of the protocol drives the crate's own code with safeguards switched off, which only the crate's own tests
/// can do; so it is compiled in here.
#[cfg(test)]
#[path = "../tests/model/mod.rs"]
mod model;

#[cfg(test)]
extern crate self as relay;
