//! Loads and measures a Nostr relay over the wire.
//!
//! [`client`] is a WebSocket client cheap enough to share a machine with the server it measures, [`events`] makes
//! repeatable events, [`bench`](mod@bench) holds the measurements, [`stats`] their numbers and [`system`] what the
//! machine itself can do at best. Everything runs on one thread (tokio's current-thread runtime) but the making and
//! signing of events, which is over before any clock starts.

pub mod bench;
pub mod client;
pub mod events;
pub mod stats;
pub mod system;
