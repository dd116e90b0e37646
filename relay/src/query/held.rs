//! The memory that one query holds: for what it is reading, and for the rows that wait to be sent.
//!
//! A query asks for the bytes of its reads before it makes them, once for all its filters: who holds some and waits for
//! more might wait for itself. Of what was read it keeps the texts of one page; of the rest it keeps the keys, and reads
//! the texts when the client has room for them.

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

/// The least bytes of text that a read is worth: where memory is scarce, pages are small.
const MIN_READ_BYTES: usize = 16 << 10;

/// A query may hold this many bytes beyond the share of its connection: the keys of an ordinary answer.
const MAX_FORCED_BYTES: usize = 64 << 10;

/// A query that has waited for memory for so long is given up.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct QueryMemory {
    /// The way to its client, which knows whether that reads.
    outbox: Arc<Outbox>,
    connection: Arc<ConnectionMemory>,
    /// How many filters are read at the same time.
    reads: usize,
    page_bytes: usize,
    /// For the reads that are under way; asked for by the first that goes to the store.
    reading: OnceCell<Reservation>,
    rows: Mutex<Rows>,
}

/// What was read.
struct Rows {
    text_bytes: usize,
    key_bytes: usize,
    /// Counts both, as far as `reading` does not cover them.
    counted: Reservation,
}

impl QueryMemory {
    /// Of a query of so many filters; it holds nothing yet.
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

    /// Of a query in a test that is about something else.
    #[cfg(test)]
    pub(super) fn unbounded(filters: usize, limits: QueryLimits) -> Self {
        let outbox_limits = crate::outbox::OutboxLimits { max_events: 1_000, max_bytes: 1 << 20 };
        let memory = crate::memory::ClientMemory::unbounded().connect();
        Self::new(&Outbox::new(outbox_limits, memory), filters, limits)
    }

    /// How many bytes of text each read may bring. Waits for memory, for a bounded time.
    pub(super) async fn read_bytes(&self) -> Result<usize, QueryError> {
        let (least, most) = (self.reads * MIN_READ_BYTES.min(self.page_bytes), self.reads * self.page_bytes);
        // Nearly always there is memory: then nothing is waited for, and those who ask the same at once stay together.
        if !self.reading.initialized()
            && let Some(reservation) = self.connection.hold_at_once(HeldFor::Rows, least, most)
        {
            // Another read of this query may have been faster: then this one is given back.
            drop(self.reading.set(reservation));
        }
        if let Some(reading) = self.reading.get() {
            return Ok(reading.bytes() / self.reads);
        }
        let reading = self.reading.get_or_try_init(|| self.wait_for(least, most)).await?;
        Ok(reading.bytes() / self.reads)
    }

    /// Waits until this query's connection may give the store one read more.
    pub(super) async fn read_permit(&self) -> Option<SemaphorePermit<'_>> {
        self.outbox.read_permit().await.ok()
    }

    /// Reserves from `least` to `most` bytes. Gives up after a while, unless it is the connection's own queries that hold
    /// the memory and its client takes what is ready for it: then it comes free.
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

    /// Counts what a read has brought. Texts beyond a page, or beyond what the connection may hold, are let go again;
    /// their keys stay. The keys alone may be many, filters times their limits: an error where the connection may not hold
    /// them.
    pub(super) fn keep(&self, snapshot: &mut PageSnapshot) -> Result<(), QueryError> {
        let mut rows = self.rows.lock();
        // What was read from the store was reserved; what the cache had was not.
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
        // Texts were taken as far as there was room; the keys had to be.
        let forced = rows.key_bytes.saturating_sub(reserved.saturating_sub(rows.text_bytes));
        match forced > MAX_FORCED_BYTES && self.connection.is_over_its_share() {
            true => Err(self.why_none()),
            false => Ok(()),
        }
    }

    /// Everything was read; `answer` is what is to be sent of it.
    pub(super) fn settle(&mut self, answer: &VecDeque<Candidate>) {
        self.reading.take();
        self.recount(answer);
    }

    /// Counts what is left of the answer.
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

/// What the list of an answer takes beside texts.
fn candidates_bytes(candidates: usize) -> usize {
    candidates * size_of::<Candidate>()
}
