//! The switches of the model's controls. In the crate's own tests a control can ablate each safeguard that the protocol
//! needs; the model must then find a fault. Outside tests [`ablated`] is a constant, so that the compiler removes it.

/// A safeguard that a control can ablate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safeguard {
    /// A follower reads missing entries from the shared log.
    Repair,
    /// A follower polls the head of the shared log.
    Poll,
    /// Entries are applied without holes, in whichever order they come.
    Order,
    /// A REQ waits until the local head has reached every snapshot's position.
    Pull,
    /// A REQ brings its snapshots up to the local head.
    Tail,
    /// An event older than the last row of an incomplete page is not inserted into the page.
    IgnoreOlder,
    /// The cache applies removals.
    CachedRemovals,
    /// A removal is not subtracted from a cached count that may not have counted the event.
    SureCounts,
    /// The cache is emptied when an epoch ends.
    CacheFlush,
    /// The cache admits a key only where it is asked for more often than the entries that it would evict.
    Admission,
    /// The cache has separate entries for readers with different rights.
    ReaderClasses,
    /// A page that goes beyond its limit goes to the end of a second.
    WholeSeconds,
    /// An answer is called complete only where it is known that nothing older matches.
    Finish,
    /// A page that has too few rows after removals is read again.
    Refetch,
    /// A REQ waits until the local head has reached every position that this instance has acknowledged.
    Acknowledged,
    /// A REQ that names ids or authors asks for the primary's head first.
    PrimaryHead,
    /// A subscription that opens gets the entries after its head.
    Replay,
    /// Entries and snapshots count only in their own epoch.
    Epochs,
    /// Entries that a failover has cut off are submitted again.
    Resubmission,
    /// The operator's removals that a failover has cut off are submitted again, too.
    ResubmittedRemovals,
    /// An entry that is not whole concerns every answer.
    PartialEntries,
    /// A subscription that has had an event before a failover cut it off does not get the event again.
    SeenBefore,
    /// An event that a replica has counts as stored only if the log has not removed it since.
    KnownRemovals,
    /// Expired events are removed by the store's clock.
    SharedClock,
    /// One instance at a time reads the store for the same entry of the shared cache.
    Lease,
    /// An older entry of the shared cache never replaces a newer one.
    Compare,
    /// A write fails where its server does not answer any more.
    GiveUp,
    /// A primary counts only where its timeline is the newest that was seen.
    NewestTimeline,
    /// A server that does not have the primary's epoch answers only where no other server can.
    PastServers,
    /// A query waits for a server of the shared cache only up to a timeout.
    LayerTimeout,
    /// Events leave the signature check in the order in which they came.
    FrameOrder,
    /// An ephemeral event that was recently delivered is not delivered again.
    RecentEphemeral,
    /// A query keeps the texts of at most one page of the rows that it has read.
    PageBound,
    /// A query whose client takes nothing drops the texts that it has read.
    GiveBack,
    /// A query whose client takes nothing ends once others need the memory of its connection.
    SlowReaders,
    /// The matcher checks the conditions that a filter is not filed under.
    AndTags,
    /// Connections to a server are opened and used once before clients' queries use them.
    Warming,
}

#[cfg(not(test))]
pub(crate) const fn ablated(_: Safeguard) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switches::{ablated, without};

#[cfg(test)]
mod switches {
    use super::Safeguard;
    use std::cell::Cell;

    thread_local!(static ABLATED: Cell<Option<Safeguard>> = const { Cell::new(None) });

    pub(crate) fn ablated(safeguard: Safeguard) -> bool {
        ABLATED.get() == Some(safeguard)
    }

    /// Runs `test` on this thread without `safeguard`.
    pub(crate) fn without<T>(safeguard: Option<Safeguard>, test: impl FnOnce() -> T) -> T {
        let before = ABLATED.replace(safeguard);
        let result = test();
        ABLATED.set(before);
        result
    }
}
