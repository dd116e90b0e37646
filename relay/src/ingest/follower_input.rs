//! The follower's queue: what its senders (the writer, and what submits cut-off entries again) put into it.

use crate::types::{Epoch, Event, LogEntry};
use std::sync::Arc;

/// The most inputs that wait for the follower. Small: the writer waits rather than run far ahead of the readers.
pub(super) const MAX_QUEUED_INPUTS: usize = 16;

/// What this instance's own writes send to the follower.
pub(crate) enum FollowerInput {
    /// An entry of the log, and its epoch.
    Entry(Epoch, LogEntry),
    /// An ephemeral event, for the subscriptions that are live now.
    Ephemeral(Arc<Event>),
}
