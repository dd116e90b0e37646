//! Where events lie: one trait, its guarantees, and the stores behind it.

mod form;
mod hash;
pub mod memory;
pub mod postgres;
pub mod rules;
pub mod sqlite;
mod text;

pub use memory::MemoryStore;

pub(crate) use form::form_name;

use crate::types::{
    Access, Change, Epoch, EventId, Filter, Head, Key, LogEntry, Position, Refusal, Row, Timestamp, Verified,
};
use futures_util::future::BoxFuture;

/// A place that keeps events and the head of their log.
///
/// # What every store promises
/// - **Order.** Each call that changes something moves the head by exactly one position, and a snapshot that shows
///   position *p* shows everything up to *p* and nothing later.
/// - **Durability.** When [`append`](Store::append) returns, what it reports is on stable storage, unless the
///   operator relaxed that.
/// - **Atomicity.** A call that fails changed nothing; one that succeeded is reported whole.
/// - **Rules.** Duplicates, replaceable and addressable versions, deletions and their tombstones are decided here,
///   inside the transaction (NIP-01, NIP-09), so that no two writers can disagree.
/// - **Snapshots.** A [`Page`] is one snapshot: rows and position belong together.
///
/// # Cancel safety
/// Reads may be dropped at any await. A write may not: its outcome would be unknown. Run it in a task of its own.
pub trait Store: Send + Sync + 'static {
    /// The head of the log as of now.
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>>;

    /// Says for each id, in order, whether the store already has it, and the head at which that holds, which is not before
    /// `at_least`: what was removed since is still known there.
    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>>;

    /// Stores a batch in one transaction, at one position. Events that are already there, superseded or deleted are
    /// reported as such and change nothing; within the batch the order counts. Ephemeral events must not be handed
    /// in. `now` decides what has already expired by its author's own `expiration` (such an event is refused).
    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// The newest events that `read.filter` selects.
    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>>;

    /// The texts of those of `ids` that are still there, in any order: for what [`Page::rest`] left out.
    fn fetch<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;

    /// How many distinct events at least one of `filters` selects for this reader; `limit` plays no part (NIP-45).
    /// `at_least` and `now` as in [`Read`].
    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>>;

    /// The present second by the clock of the machine that keeps the events: the one that every instance shares. What is
    /// done to the events of all goes by it, and not by the own clock, which may be hours ahead.
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>>;

    /// Removes up to `max` events that have expired by `now`, oldest expiry first. One position, or none where
    /// nothing had expired.
    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// Removes up to `max` events that `filter` selects, by the operator's order: they may be sent in again.
    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>>;

    /// Finishes what is under way and closes the files. Later calls fail with [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The log as a store keeps it for several instances, beside the events. It is what the bus only makes fast: a reader
/// that follows nothing but this sees everything, in order.
pub trait SharedLog: Send + Sync + 'static {
    /// Where the log stands on the primary as of now.
    fn shared_head(&self) -> BoxFuture<'_, Result<SharedHead, StoreError>>;

    /// The entries right after `after`, contiguous and whole, about `max_changes` changes' worth, at least one where
    /// there is one, and the head: one statement on the primary, so that they belong to one epoch. No entries:
    /// `after` is the head, or lies beyond it.
    ///
    /// # Errors
    /// [`StoreError::OutOfReach`] where the log no longer reaches back to `after`.
    fn entries(&self, after: Position, max_changes: usize) -> BoxFuture<'_, Result<LogSlice, StoreError>>;
}

/// A part of a shared log and where the log stood then: one snapshot.
#[derive(Debug, Clone)]
pub struct LogSlice {
    /// The head as of this snapshot; `entries` are of its epoch.
    pub head: SharedHead,
    /// Contiguous, from right after the position that was asked for.
    pub entries: Vec<LogEntry>,
}

/// Where a shared log stands, and how its epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SharedHead {
    /// The last entry.
    pub head: Head,
    /// The last position that this epoch has in common with the one before: a reader of the older epoch reads through
    /// here, then leaps. 0 for the first epoch.
    pub base: Position,
    /// The epoch before.
    pub previous: Epoch,
}

/// What a read asks for.
#[derive(Debug, Clone)]
pub struct Read<'a> {
    /// Which events. Its own `limit` is ignored: the caller has settled `limit` below.
    pub filter: &'a Filter,
    /// At most this many rows, newest first, ties by lowest id.
    pub limit: usize,
    /// Only events after this one in that order: the next page of a long walk.
    pub after: Option<Key>,
    /// Who asks: what they may not read does not count against `limit`. `None`: the relay itself, which sees all.
    pub access: Option<&'a Access>,
    /// The snapshot must show at least this position: a store with lagging copies chooses one that has come so far,
    /// at last the primary. A store of one copy always has.
    pub at_least: Position,
    /// Events that have expired by this second are left out.
    pub now: Timestamp,
    /// Once the rows' texts exceed this many bytes, the remaining rows come as ids in [`Page::rest`].
    pub max_text_bytes: usize,
}

/// The answer to a read: one snapshot.
#[derive(Debug, Clone)]
pub struct Page {
    /// The rows, newest first, ties by lowest id.
    pub rows: Vec<Row>,
    /// The rows after those, in the same order, whose texts were left out to bound memory.
    pub rest: Vec<Key>,
    /// The position of the snapshot.
    pub head: Head,
    /// True when nothing older matches: the rows are all there is.
    pub complete: bool,
}

/// The answer to a count: one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// How many events.
    pub number: u64,
    /// The position of the snapshot.
    pub head: Head,
    /// When the first of them expires; `None` where none ever does.
    pub expires_at: Option<Timestamp>,
}

/// What a write did.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The head after the write. Moved by one where `changes` is not empty, else as it was.
    pub head: Head,
    /// One outcome for each event that was handed in, in order.
    pub outcomes: Vec<Outcome>,
    /// Everything that changed, in order: the log entry at `head`.
    pub changes: Vec<Change>,
}

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Stored,
    /// It was there before.
    Duplicate,
    /// A newer version of the same replaceable or addressable event is there (or was deleted).
    Superseded,
    /// Its author, or the recipient of a gift wrap, has deleted it.
    Deleted,
    /// It had expired before it could be stored.
    Expired,
}

/// Why a store could not do what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection became free in time.
    #[error("the store is overloaded")]
    Overloaded,
    /// The statement took longer than allowed.
    #[error("the query took too long")]
    Timeout,
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// The database takes no writes; reading goes on.
    #[error("the database takes no writes: it was made read-only")]
    ReadOnly,
    /// Someone else holds the database.
    #[error("the database is locked")]
    Locked,
    /// Another process writes to this database.
    #[error("{path} is in use by another relay{}", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    InUse {
        /// The database.
        path: std::path::PathBuf,
        /// The other process, where that is known.
        pid: Option<u32>,
    },
    /// The database was written by a newer version of this program.
    #[error("the database has schema version {found}, this program knows up to {known}: start a newer version")]
    TooNew {
        /// What the database says.
        found: i64,
        /// The last migration of this program.
        known: i64,
    },
    /// The log was trimmed: it no longer reaches back to the position that was asked for.
    #[error("the log no longer reaches back that far")]
    OutOfReach,
    /// No server that could do this can be reached.
    #[error("no {0} can be reached")]
    Unreachable(&'static str),
    /// The connection broke while a write was under way, and what became of it could not be found out in time: the
    /// one error after which something may have changed.
    #[error("the outcome of the write is unknown")]
    Unknown,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// What is stored cannot be read back.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// Anything else that the database said.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl From<&StoreError> for Refusal {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::Overloaded,
            StoreError::Timeout => Self::Timeout,
            StoreError::Full => Self::DiskFull,
            StoreError::Locked | StoreError::InUse { .. } => Self::DatabaseLocked,
            StoreError::Closed => Self::ShuttingDown,
            StoreError::TooNew { .. }
            | StoreError::OutOfReach
            | StoreError::Unreachable(_)
            | StoreError::ReadOnly
            | StoreError::Unknown
            | StoreError::Damaged(_)
            | StoreError::Database(_) => Self::StoreFailed,
        }
    }
}
