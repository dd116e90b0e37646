//! wss against the real binary: certificates from files and their replacement, handshakes that violate the protocol,
//! and certificates from a real ACME server (Pebble).

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../process/mod.rs"]
mod process;

mod acme;
mod files;
mod handshakes;
mod kit;
mod pebble;
