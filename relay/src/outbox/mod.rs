//! The way back to a client: each connection has one bounded outbox, which its subscriptions carry. A leaf, so that
//! every station can answer without importing the connection.
//!
//! A push of a live event never waits. When the outbox is full, the subscription only remembers its place in the log
//! ([`Delivery::Behind`]), and the connection's task, which drains the outbox, replays the ring from there.

mod items;
mod queue;
mod subscription;
#[cfg(test)]
mod tests;

pub use items::Item;
pub use queue::{Closed, Outbox, OutboxLimits, Remaining, RowsPushed, Turn};
pub use subscription::{Delivery, Offered, Place, RingGeneration, Subscription};
