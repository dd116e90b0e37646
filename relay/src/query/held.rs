//! The memory that one query holds: for what it is reading, and for the rows that wait to be sent.
//!
//! A query reserves the bytes of its reads before it makes them, once for all its filters: a query that held some bytes
//! and waited for more might wait for itself. It keeps the texts of one page of what it has read. Of the other rows it
//! keeps the keys, and reads their texts when the client has room for them.

use super::page::{Candidate, PageSnapshot};
use super::{QueryError, QueryLimits, READS_AT_ONCE};
use crate::cache::Listed;
use crate::memory::{ConnectionMemory, HeldFor, Reservation};
use crate::outbox::Outbox;
use crate::types::safeguard::{Safeguard, ablated};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, SemaphorePermit};
use tokio::time::timeout;

/// The smallest reservation for one read, in bytes of text: where memory is scarce, pages are small, but not tiny.
const MIN_READ_BYTES: usize = 16 << 10;

/// A query may hold this many bytes beyond the share of its connection: the keys of an ordinary answer.
const MAX_FORCED_BYTES: usize = 64 << 10;

/// How long a query waits for memory before it is refused.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(5);

/// The reservations of one query; see the module.
pub(super) struct QueryMemory {
    /// Tells whether the client reads.
    outbox: Arc<Outbox>,
    connection: Arc<ConnectionMemory>,
    /// How many of the query's filters are read at the same time.
    reads: usize,
    page_bytes: usize,
    /// Covers the reads that are under way. The first read that goes to the store makes it.
    reading: OnceCell<Reservation>,
    rows: Mutex<Rows>,
}

/// What the query has read and not sent, in bytes.
struct Rows {
    text_bytes: usize,
    key_bytes: usize,
    /// Reserves both, as far as `reading` does not cover them.
    counted: Reservation,
}

impl QueryMemory {
    /// For a query of `filters` filters; holds nothing yet.
    pub(super) fn new(outbox: &Arc<Outbox>, filters: usize, limits: QueryLimits) -> Self {
        let connection = outbox.memory();
        Self {
            outbox: outbox.clone(),
            connection: connection.clone(),
            reads: filters.clamp(1, READS_AT_ONCE),
            page_bytes: limits.max_text_bytes,
            reading: OnceCell::new(),
            rows: Mutex::new(Rows { text_bytes: 0, key_bytes: 0, counted: connection.hold(HeldFor::Rows, 0) }),
        }
    }

    /// Without bounds, for tests of something else.
    #[cfg(test)]
    pub(super) fn unbounded(filters: usize, limits: QueryLimits) -> Self {
        let outbox_limits = crate::outbox::OutboxLimits { max_events: 1_000, max_bytes: 1 << 20 };
        let memory = crate::memory::ClientMemory::unbounded().connect();
        Self::new(&Outbox::new(outbox_limits, memory), filters, limits)
    }

    /// How many bytes of text each read may bring. Waits for memory, for a bounded time.
    pub(super) async fn read_bytes(&self) -> Result<usize, QueryError> {
        let (least, most) = (self.reads * MIN_READ_BYTES.min(self.page_bytes), self.reads * self.page_bytes);
        // There nearly always is memory: then this does not yield, and queries that ask the same at once join one
        // flight.
        if !self.reading.initialized()
            && let Some(reservation) = self.connection.hold_at_once(HeldFor::Rows, least, most)
        {
            // Another read of this query may have been faster: then this reservation is dropped.
            drop(self.reading.set(reservation));
        }
        if let Some(reading) = self.reading.get() {
            return Ok(reading.bytes() / self.reads);
        }
        let reading = self.reading.get_or_try_init(|| self.wait_for(least, most)).await?;
        Ok(reading.bytes() / self.reads)
    }

    /// Waits until this query's connection may make one read more of the store; `None`: the connection is closed.
    pub(super) async fn read_permit(&self) -> Option<SemaphorePermit<'_>> {
        self.outbox.read_permit().await.ok()
    }

    /// Reserves from `least` to `most` bytes. Gives up after [`MEMORY_TIMEOUT`], unless the connection's own queries
    /// hold the memory and its client takes what is ready: then memory comes free soon.
    pub(super) async fn wait_for(&self, least: usize, most: usize) -> Result<Reservation, QueryError> {
        let mut wait = pin!(self.connection.wait_to_hold(HeldFor::Rows, least, most));
        let mut takes = self.outbox.takes();
        loop {
            if let Ok(reservation) = timeout(MEMORY_TIMEOUT, &mut wait).await {
                return Ok(reservation);
            }
            let is_stalled = self.outbox.is_stalled_since(takes);
            takes = self.outbox.takes();
            if is_stalled || self.connection.account().share_bytes() < least {
                return Err(self.why_none());
            }
        }
    }

    /// Counts the rows that a read has brought. Drops texts beyond a page, or beyond what the connection may hold, and
    /// keeps their keys. The keys alone may be many, filters times their limits: an error where the connection may not
    /// hold them.
    pub(super) fn keep(&self, snapshot: &mut PageSnapshot) -> Result<(), QueryError> {
        let mut rows = self.rows.lock();
        // Rows from the store were reserved by `reading`; rows from the cache were not.
        let reserved = self.reading.get().map_or(0, Reservation::bytes);
        let room = reserved.saturating_sub(rows.text_bytes) + self.connection.room_bytes();

        let most = self.page_bytes.min(rows.text_bytes + room.max(MIN_READ_BYTES));

        for candidate in &mut snapshot.rows {
            let bytes = candidate.text_bytes();
            if rows.text_bytes + bytes > most && !ablated(Safeguard::PageBound) {
                *candidate = Candidate::ToFetch(candidate.key());
            } else {
                rows.text_bytes += bytes;
            }
        }

        rows.key_bytes += candidates_bytes(snapshot.rows.len());
        let counted = (rows.text_bytes + rows.key_bytes).saturating_sub(reserved);
        rows.counted.resize(counted);

        // Only the keys can exceed the share of the connection: texts were kept as far as there was room.
        let forced = rows.key_bytes.saturating_sub(reserved.saturating_sub(rows.text_bytes));
        match forced > MAX_FORCED_BYTES && self.connection.is_over_its_share() {
            true => Err(self.why_none()),
            false => Ok(()),
        }
    }

    /// To be called when everything was read: `answer` is what will be sent.
    pub(super) fn settle(&mut self, answer: &VecDeque<Candidate>) {
        self.reading.take();
        self.recount(answer);
    }

    /// Counts the rest of the answer.
    pub(super) fn recount(&mut self, answer: &VecDeque<Candidate>) {
        let rows = self.rows.get_mut();
        rows.text_bytes = answer.iter().map(Candidate::text_bytes).sum();
        rows.key_bytes = candidates_bytes(answer.capacity());
        rows.counted.resize(rows.text_bytes + rows.key_bytes);
    }

    /// True where others need the memory that this query's connection holds.
    pub(super) fn is_needed_elsewhere(&self) -> bool {
        self.connection.holds_what_others_need()
    }

    fn why_none(&self) -> QueryError {
        if self.connection.is_over_its_share() || self.connection.account().share_bytes() >= MIN_READ_BYTES {
            QueryError::MemoryShare
        } else {
            QueryError::OutOfMemory
        }
    }
}

/// The bytes of an answer's list without its texts.
fn candidates_bytes(candidates: usize) -> usize {
    candidates * size_of::<Candidate>()
}
