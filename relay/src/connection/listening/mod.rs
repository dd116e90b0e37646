//! Accepting connections: how many there may be, whom a proxy speaks for, and when the relay drains them.

pub(super) mod listener;
pub(super) mod proxy;
pub(super) mod refusals;
pub(super) mod shutdown;
pub(super) mod slots;
