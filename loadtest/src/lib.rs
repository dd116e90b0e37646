//! Loads and measures a Nostr relay over the wire.
//!
//! [`load`] is the load tester: many connections, an open loop, a ledger of every delivery; [`report`] tells what it
//! found. [`bench`](mod@bench) holds the measurements of single figures, [`hot`] what the relay's cache
//! is worth. All use [`client`], a WebSocket client cheap
//! enough to share a machine with the server it measures, [`events`], which makes repeatable events, [`stats`], and
//! [`system`], what the machine is and what processes use of it.

pub mod bench;
pub mod client;
pub mod events;
pub mod hot;
pub mod load;
pub mod report;
pub mod stats;
pub mod system;
