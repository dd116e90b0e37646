//! The bus: how instances of one relay tell each other what is new, at once. It only makes the log fast.

mod codec;
pub mod redis;

pub use codec::{Sender, decode, encode, sender};

use crate::types::{Epoch, Event, LogEntry};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// What one instance tells the others.
#[derive(Debug, Clone)]
pub enum Message {
    /// Entries of the log, of one epoch.
    Entries(Epoch, Vec<LogEntry>),
    /// Ephemeral events, which are in no log.
    Ephemeral(Vec<Arc<Event>>),
    /// A sign of life.
    Heartbeat,
}

/// A way to the other instances.
///
/// # What every bus promises
/// - **Speed, not delivery.** A message reaches each other instance that is up at most once, usually within
///   milliseconds, in any order, or not at all. So whoever must not miss anything follows the shared log as well;
///   ephemeral events, which are in no log, are delivered at most once.
/// - **No waiting.** Publishing never waits: a message for which there is no room is dropped and counted.
/// - **No echo.** Nobody receives what they published themselves.
/// - **Honesty about deafness.** [`up`](Self::up) is true only while messages have lately been seen to come round: after
///   an outage of whatever length the bus finds back on its own.
pub trait Bus: Send + Sync + 'static {
    /// Tells the others.
    fn publish(&self, message: Message);

    /// Whether messages come round, as of now and from now on.
    fn up(&self) -> watch::Receiver<bool>;

    /// True when another instance has given a sign of life within the last few seconds.
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
    /// A bus on which nothing ever comes.
    pub fn attach() -> BusHandle {
        // The sender is gone, so the receiver is at its end from the start.
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
