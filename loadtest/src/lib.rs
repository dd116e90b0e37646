//! Loads and measures a Nostr relay over the wire.
//!
//! [`load`] is the load tester: many connections, an open loop, a ledger of every delivery; [`report`] presents its
//! findings. [`bench`](mod@bench) measures single figures, and [`hot`] the benefit of the relay's cache.
//!
//! All use [`client`], a WebSocket client cheap enough to share a machine with the server that it measures; [`events`],
//! which makes repeatable events; [`stats`]; and [`system`], which describes the machine and measures processes.

pub mod bench;
pub mod client;
pub mod events;
pub mod hot;
pub mod load;
pub mod report;
pub mod stats;
pub mod system;
