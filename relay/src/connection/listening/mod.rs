//! Accepting connections: how many there may be, whom a proxy speaks for, and when the relay leaves.

pub(super) mod listener;
pub(super) mod proxy;
mod refused;
pub(super) mod shutdown;
pub(super) mod slots;
