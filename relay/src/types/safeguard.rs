//! The switches of the model's controls: each safeguard that the protocol needs can be taken away, in the crate's own
//! tests only, and the model must then find what breaks. Elsewhere the question is answered when compiling.

/// A safeguard that a control takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safeguard {
    /// A follower reads what it misses from the shared log.
    Repair,
    /// A follower polls the head of the shared log.
    Poll,
    /// Entries are applied without holes, whatever order they come in.
    Order,
    /// A REQ waits until the local head has reached every snapshot's position.
    Pull,
    /// A REQ brings its snapshots up to the local head.
    Tail,
    /// What is older than the last row of an incomplete page does not enter it.
    IgnoreOlder,
    /// The cache hears of removals.
    CachedRemovals,
    /// What a kept count may not have counted is not taken off it.
    SureCounts,
    /// The cache is emptied when an epoch ends.
    CacheFlush,
    /// The cache lets in only what is asked for more often than what would have to go.
    Admission,
    /// The cache keeps apart what different readers may see.
    ReaderClasses,
    /// A page that goes beyond its limit goes to the end of a second.
    WholeSeconds,
    /// An answer is called complete only where it is known that nothing older matches.
    Finish,
    /// A page that removals have left short is read again.
    Refetch,
    /// A REQ waits for what this instance has acknowledged.
    Acknowledged,
    /// A REQ that names ids or authors learns the primary's head first.
    PrimaryHead,
    /// A subscription that opens is sent what has come since its head.
    Replay,
    /// Entries and snapshots count only in the epoch that they are of.
    Epochs,
    /// What a failover has cut off is submitted again.
    Resubmission,
    /// The operator's removals are among it.
    ResubmittedRemovals,
    /// Who has had an event before a failover cut it off does not get it again.
    SeenBefore,
    /// What a replica knows counts only if the log has not removed it since.
    KnownRemovals,
    /// Expired events are removed by the store's clock.
    SharedClock,
    /// One instance at a time reads the store for the same entry of the shared cache.
    Lease,
    /// An older entry of the shared cache never replaces a newer one.
    Compare,
    /// A write whose server is lost is given up.
    GiveUp,
    /// A primary of an older timeline than the newest seen is no primary.
    NewestTimeline,
    /// A server that knows nothing of the primary's epoch answers only where no other server can.
    PastServers,
    /// A server of the shared cache has so long for an answer, and no longer.
    LayerTimeout,
    /// Events leave the signature check in the order in which they came.
    FrameOrder,
    /// An ephemeral event that was delivered lately is not delivered again.
    RecentEphemeral,
    /// Of what a query has read it keeps the texts of one page.
    PageBound,
    /// A query whose client takes nothing gives back the texts that it has read.
    GiveBack,
    /// A query whose client takes nothing ends once others need the memory of its connection.
    SlowReaders,
    /// The matcher checks the conditions that a filter is not filed under.
    AndTags,
    /// A server's connections are open, and have been asked, before the first client asks.
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
