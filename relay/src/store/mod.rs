//! The stores: one trait with its guarantees, and the stores that implement it.

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
use rules::Vanish;

/// A store of events and of the head of their log.
///
/// # What every store promises
/// - **Order.** Each call that changes something moves the head by exactly one position. A snapshot at position *p*
///   shows everything up to *p* and nothing later.
/// - **Durability.** When [`append`](Store::append) returns, what it reports is on stable storage, unless the operator
///   relaxed that.
/// - **Atomicity.** A call that fails changed nothing; one that succeeded is reported whole.
/// - **Rules.** The store decides duplicates, replaceable and addressable versions, deletions and their tombstones
///   inside the transaction (NIP-01, NIP-09), so that no two writers can disagree.
/// - **Snapshots.** A [`Page`] is one snapshot: its rows and its position belong together.
///
/// # Cancel safety
/// Reads may be dropped at any await. A write may not: its outcome would be unknown. Run it in a task of its own.
pub trait Store: Send + Sync + 'static {
    /// The present head of the log.
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>>;

    /// For each id, in order, whether the store has it; and the head of that snapshot, which is not before `at_least`:
    /// the caller knows the removals since then.
    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>>;

    /// Stores a batch in one transaction, at one position. Events that are stored already, superseded or deleted are
    /// reported as such and change nothing; within the batch the order counts. An event whose `expiration` has passed
    /// by `now` is refused (NIP-40). The caller passes no ephemeral events.
    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// The newest events that `read.filter` selects, as one snapshot.
    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>>;

    /// The rows of those of `ids` that are still stored, in any order: the texts that [`Page::rest`] left out.
    fn fetch<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;

    /// How many distinct events at least one of `filters` selects for this reader, without regard to `limit` (NIP-45).
    /// `at_least` and `now` as in [`Read`].
    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>>;

    /// The present second by the clock of the machine that stores the events, which all instances share. Writes that
    /// depend on the time use this clock, since an instance's own may be hours ahead.
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>>;

    /// Removes up to `max` events that have expired by `now`, oldest expiry first. Takes one position, or none where
    /// nothing had expired.
    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// Removes up to `max` events that `filter` selects, on the operator's order. The events may be published again.
    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>>;

    /// Removes up to `max` of the events that `vanish` covers (NIP-62), and sets the floor below which the store
    /// refuses them from then on. At most one position; no changes where nothing is left. Call it until then: events
    /// that come in between two calls are newer than the floor.
    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>>;

    /// Finishes the writes under way and closes the files. Later calls fail with [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The log that several instances share, stored beside the events. A reader that follows nothing but this sees every
/// entry, in order; the bus only makes that faster.
pub trait SharedLog: Send + Sync + 'static {
    /// The present head of the log on the primary.
    fn shared_head(&self) -> BoxFuture<'_, Result<SharedHead, StoreError>>;

    /// The entries right after `after`, without holes: at least one where there is one, and no further one once they
    /// have `max_changes` changes. One statement on the primary reads them with the head, so all of it is of one epoch.
    /// No entries: `after` is the head, or beyond it.
    ///
    /// # Errors
    /// [`StoreError::OutOfReach`] where the log no longer reaches back to `after`.
    fn entries(&self, after: Position, max_changes: usize) -> BoxFuture<'_, Result<LogSlice, StoreError>>;
}

/// Consecutive entries of a shared log, and its head: one snapshot.
#[derive(Debug, Clone)]
pub struct LogSlice {
    /// The head at this snapshot; `entries` are of its epoch.
    pub head: SharedHead,
    /// Without holes, from right after the requested position.
    pub entries: Vec<LogEntry>,
}

/// The head of a shared log, and how its epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SharedHead {
    /// The position of the last entry.
    pub head: Head,
    /// The last position that this epoch has in common with the one before: a follower of the older epoch reads up to
    /// here, then switches. 0 for the first epoch.
    pub base: Position,
    /// The epoch before.
    pub previous: Epoch,
}

/// A read.
#[derive(Debug, Clone)]
pub struct Read<'a> {
    /// The filter. Its own `limit` is ignored in favour of `limit` below.
    pub filter: &'a Filter,
    /// The most rows, newest first, ties by lowest id.
    pub limit: usize,
    /// Only events after this one in that order: the next page of a long walk.
    pub after: Option<Key>,
    /// The reader: events that the reader may not see do not count against `limit`. `None`: the relay itself, which
    /// sees all.
    pub access: Option<&'a Access>,
    /// The least position of the snapshot. A store with replicas chooses one that has come this far, or else the
    /// primary; a store without replicas always qualifies.
    pub at_least: Position,
    /// Events that have expired by this second are left out.
    pub now: Timestamp,
    /// Once the texts of the rows exceed this many bytes, the remaining rows come as keys in [`Page::rest`].
    pub max_text_bytes: usize,
}

/// The answer to a read: one snapshot.
#[derive(Debug, Clone)]
pub struct Page {
    /// The rows, newest first, ties by lowest id.
    pub rows: Vec<Row>,
    /// The keys of the rows after those, in the same order; their texts were left out to bound memory.
    pub rest: Vec<Key>,
    /// The position of the snapshot.
    pub head: Head,
    /// True when nothing older matches: then the rows are all the matches.
    pub complete: bool,
}

/// The answer to a count: one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// The number of events.
    pub number: u64,
    /// The position of the snapshot.
    pub head: Head,
    /// When the first of the counted events expires; `None` where none ever does.
    pub expires_at: Option<Timestamp>,
}

/// What a write did.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The head after the write: moved by one where `changes` is not empty, else as before.
    pub head: Head,
    /// One outcome for each event of the batch, in order.
    pub outcomes: Vec<Outcome>,
    /// Everything that changed, in order: the log entry at `head`.
    pub changes: Vec<Change>,
}

/// The result of appending one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Stored,
    /// It was stored before.
    Duplicate,
    /// A newer version of the same replaceable or addressable event is stored, or was deleted.
    Superseded,
    /// Its author, or the recipient of a gift wrap, has deleted it.
    Deleted,
    /// It had expired before it could be stored.
    Expired,
    /// Its author, or the recipient of a gift wrap, has asked this relay to forget everything up to then.
    Vanished,
}

/// Why a call to a store failed. Nothing was changed, unless the variant says otherwise.
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
    /// Another process holds a lock on the database.
    #[error("the database is locked")]
    Locked,
    /// Another process writes to this database.
    #[error("{path} is in use by another relay{}", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    InUse {
        /// The path of the database.
        path: std::path::PathBuf,
        /// The other process, where it is known.
        pid: Option<u32>,
    },
    /// The database was written by a newer version of this program.
    #[error("the database has schema version {found}, this program knows up to {known}: start a newer version")]
    TooNew {
        /// The schema version of the database.
        found: i64,
        /// The last migration of this program.
        known: i64,
    },
    /// The log was trimmed: it no longer reaches back to the requested position.
    #[error("the log no longer reaches back that far")]
    OutOfReach,
    /// No server that could do this can be reached.
    #[error("no {0} can be reached")]
    Unreachable(&'static str),
    /// The connection broke while a write was under way, and its outcome could not be determined in time. This is the
    /// one error after which something may have changed.
    #[error("the outcome of the write is unknown")]
    Unknown,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Stored data cannot be decoded.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// Another error of the database.
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
