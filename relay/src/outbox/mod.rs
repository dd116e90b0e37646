//! The way back to a client: a bounded outbox a connection, carried inside its subscriptions. A leaf, so that every
//! station can answer without importing the connection.
//!
//! A push of a live event never waits. When the outbox is full, the subscription only remembers where it stands in
//! the log ([`Delivery::Behind`]), and whoever drains the outbox replays from the ring.

mod items;
mod queue;
mod subscription;
#[cfg(test)]
mod tests;

pub use items::Item;
pub use queue::{Closed, Outbox, OutboxLimits, Remaining, RowsPushed, Turn};
pub use subscription::{Delivery, Offered, Place, RingGeneration, Subscription};
