//! The follower: applies the log's entries in order. The one task that calls [`Log::apply`].

use crate::log::{Hole, Log};
use crate::types::{Event, LogEntry};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How many entries may wait to be applied. Small: the writer waits rather than running far ahead of the readers.
pub(super) const QUEUE: usize = 16;

/// What reaches the follower.
pub(super) enum News {
    /// The next entry of the log.
    Entry(LogEntry),
    /// An ephemeral event, to whoever is live now.
    Ephemeral(Arc<Event>),
}

/// Why the follower stopped before it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FollowerStopped {
    /// A committed entry never arrived: only a bug, or a second writer on the same database, can do that.
    #[error(transparent)]
    Hole(#[from] Hole),
    /// The writer has ended before it.
    #[error("the writer has ended")]
    WriterGone,
    /// It panicked; the log says where.
    #[error("the follower panicked")]
    Panicked,
}

pub(super) async fn run(log: Arc<Log>, mut inbox: mpsc::Receiver<News>) -> Result<(), FollowerStopped> {
    while let Some(news) = inbox.recv().await {
        match news {
            News::Entry(entry) => log.apply(&entry)?,
            News::Ephemeral(event) => {
                log.broadcast(event);
            }
        }
    }
    Ok(())
}
