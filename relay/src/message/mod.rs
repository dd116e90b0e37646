//! The wire: client messages in, relay messages out, and the one map from decisions to NIP-01's words.

mod client;
mod nips;
mod relay;
#[cfg(test)]
mod tests;
mod words;

pub use client::{ClientMessage, ParseLimits};
pub use nips::SUPPORTED_NIPS;
pub use relay::{event, push_event, reply};
