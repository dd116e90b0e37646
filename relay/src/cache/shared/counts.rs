//! Counters of the shared layer.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Counters of the shared layer since it was made.
        #[derive(Debug, Default)]
        pub(super) struct Counts {
            $(pub(super) $name: AtomicCounter,)+
        }

        /// Counters of the shared layer since it was made, and the state of its servers.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
        pub struct SharedStatus {
            /// Servers that carry entries.
            pub servers: usize,
            /// Servers that answer.
            pub servers_up: usize,
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Counts {
            pub(super) fn status(&self, (servers, servers_up): (usize, usize)) -> SharedStatus {
                SharedStatus { servers, servers_up, $($name: self.$name.get(),)+ }
            }
        }
    };
}

counts! {
    /// Entries that a read found at once and could use.
    hits,
    /// Reads that found no entry.
    misses,
    /// Reads that found an entry that was too old, had too little room, was purged, or was damaged.
    unusable,
    /// Reads that found an entry that does not decode.
    damaged,
    /// Misses after which another instance's answer came while the read waited.
    hits_after_wait,
    /// Misses after which another instance's answer did not come in time.
    waited_in_vain,
    /// Requests that a server did not answer in time.
    late,
    /// Requests without a server, or with its circuit breaker open: they did not wait.
    away,
    /// Requests that a server answered with an error.
    failed,

    /// Entries that were written.
    written,
    /// Entries that were not written, since Redis had one at least as good.
    not_newer,
    /// Entries that were too large to be shared.
    too_large,
    /// Entries that were not written, since the queue was full.
    dropped,
    /// Entries that a server did not take.
    not_taken,
    /// Bytes of entries that were read.
    read_bytes,
    /// Bytes of entries that were sent to be written.
    written_bytes,
}

/// A counter.
#[derive(Debug, Default)]
pub(super) struct AtomicCounter(AtomicU64);

impl AtomicCounter {
    pub(super) fn add(&self, number: usize) {
        self.0.fetch_add(number as u64, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
