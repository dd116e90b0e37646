//! Bytes that are counted until this is dropped.

use super::{ConnectionMemory, HeldFor};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes that one connection holds for one thing. Dropped, they are given back.
#[derive(Debug)]
pub struct Reservation {
    connection: Arc<ConnectionMemory>,
    what: HeldFor,
    bytes: usize,
}

impl Reservation {
    pub(super) fn count(connection: Arc<ConnectionMemory>, what: HeldFor, bytes: usize) -> Self {
        let mut reservation = Self { connection, what, bytes: 0 };
        reservation.resize(bytes);
        reservation
    }

    /// How many bytes it counts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts `bytes` from now on: gives the difference back, or takes it whether there is room or not.
    pub fn resize(&mut self, bytes: usize) {
        let Self { connection, what, bytes: before } = self;
        let account = &connection.account;
        let gives_back = bytes < *before;
        // Differences wrap around, as the counters do.
        let difference = bytes.wrapping_sub(*before);
        if *what == HeldFor::Filters {
            connection.filter_bytes.fetch_add(difference, Ordering::SeqCst);
        }
        for counter in [&connection.held_bytes, &account.held_for[*what as usize], &account.held_bytes] {
            counter.fetch_add(difference, Ordering::SeqCst);
        }
        *before = bytes;
        if gives_back {
            account.serve_waiters();
        }
    }

    /// Counts what `other` counts, which is of the same connection and for the same.
    pub fn absorb(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.connection, &other.connection) && self.what == other.what);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Counts `more` bytes beside those it has; false, and nothing changes, where the connection may not hold them.
    pub fn try_grow(&mut self, more: usize) -> bool {
        let grows = self.connection.room_for(self.what) >= more;
        if grows {
            self.resize(self.bytes + more);
        }
        grows
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}
