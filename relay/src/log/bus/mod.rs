//! The bus: instances of one relay send each other their entries at once. It makes the log fast, and nothing else
//! depends on it.

mod codec;
pub mod redis;

pub use codec::{Sender, decode, encode, sender};

use crate::types::{Epoch, Event, LogEntry};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// A message between instances.
#[derive(Debug, Clone)]
pub enum Message {
    /// Entries of the log, all of one epoch.
    Entries(Epoch, Vec<LogEntry>),
    /// Ephemeral events, which are in no log.
    Ephemeral(Vec<Arc<Event>>),
    /// A heartbeat.
    Heartbeat,
}

/// A way to the other instances.
///
/// # What every bus promises
/// - **Speed, not delivery.** A message reaches each other instance at most once, usually within milliseconds, in any
///   order, or not at all. So the follower, which must not miss an entry, reads the shared log as well. Ephemeral
///   events, which are in no log, are delivered at most once.
/// - **No waiting.** Publishing never waits: without room a message is dropped and counted.
/// - **No echo.** An instance does not receive what it has published.
/// - **Honesty about silence.** [`up`](Self::up) is true only while the instance's own heartbeats come back. After an
///   outage of any length the bus recovers by itself.
pub trait Bus: Send + Sync + 'static {
    /// Sends a message to the other instances.
    fn publish(&self, message: Message);

    /// Whether heartbeats come back, now and at each change.
    fn up(&self) -> watch::Receiver<bool>;

    /// True when another instance was heard within the last few seconds.
    fn has_peers(&self) -> bool;
}

/// Both ends of a bus.
pub struct BusHandle {
    /// To the other instances.
    pub publisher: Arc<dyn Bus>,
    /// What the other instances publish.
    pub receiver: mpsc::Receiver<Message>,
}

/// No bus: instances follow the shared log alone. Slower, never lossy; ephemeral events stay on their instance.
#[derive(Debug, Default)]
pub struct NoBus;

impl NoBus {
    /// A bus on which no message ever comes.
    pub fn attach() -> BusHandle {
        // The sender is dropped, so the receiver is at its end from the start.
        BusHandle { publisher: Arc::new(Self), receiver: mpsc::channel(1).1 }
    }
}

impl Bus for NoBus {
    fn publish(&self, _: Message) {}

    fn up(&self) -> watch::Receiver<bool> {
        watch::channel(false).1
    }

    fn has_peers(&self) -> bool {
        false
    }
}
