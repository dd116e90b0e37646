//! Skein: a Nostr relay that scales horizontally, built around one log.
//!
//! `ARCHITECTURE.md` describes the two journeys through the modules, that of an event and that of a query.

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
pub mod task;
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
