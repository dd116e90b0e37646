//! What the shared layer has done since it was made.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What the shared layer has done since it was made.
        #[derive(Debug, Default)]
        pub(super) struct Counts {
            $(pub(super) $name: AtomicCounter,)+
        }

        /// What the shared layer has done since it was made, and how its servers are.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
        pub struct SharedStatus {
            /// Servers that carry entries.
            pub servers: usize,
            /// Those of them that answer.
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
    /// Entries that were found at once and could be used.
    hits,
    /// Nothing was there.
    misses,
    /// What was there was too old, had too little room, had been purged, or was damaged.
    unusable,
    /// What was there was not understood.
    damaged,
    /// After a miss: what another instance was reading was waited for, and came.
    hits_after_wait,
    /// After a miss: it did not come in time.
    waited_in_vain,
    /// The server did not answer in time.
    late,
    /// No server was there, or it was left alone for having been late: nobody waited.
    away,
    /// The server reported an error.
    failed,

    /// Entries that were written.
    written,
    /// Entries that were not, for what was there was at least as good.
    not_newer,
    /// Entries that were too large to be shared.
    too_large,
    /// Entries that were not written for lack of room in the queue.
    dropped,
    /// Entries that a server did not take.
    not_taken,
    /// Bytes of entries that were read.
    read_bytes,
    /// Bytes of entries that were sent to be written.
    written_bytes,
}

/// One number that only grows.
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
