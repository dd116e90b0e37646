//! The layer that all instances share, which the cache asks when the process has no answer.

use super::shared::{HEADER_BYTES, SharedStatus};
use super::{Answer, FilterKey, Purge};
use futures_util::future::{BoxFuture, FutureExt, ready};
use std::time::Duration;

/// A layer that several instances share.
///
/// # What every layer promises
/// - **It never fails and never hangs.** Whatever happens to its servers, [`get`](Self::get) returns within
///   milliseconds; only the hit rate suffers.
/// - **It guesses nothing.** An entry comes out as an instance has put it in, or not at all.
/// - **Single-flight across instances.** Of the instances that miss a key at the same time, one gets the lease at once:
///   it reads the store and [`put`](Self::put)s the answer. The others wait for that answer, for a bounded time.
pub trait SharedLayer: Send + Sync + 'static {
    /// The answer of `key`, if there is a `usable` one: it has room for the rows that the query asks for, and the
    /// reader's log can bring its head up to date. An error asks the caller to read the store, and then to
    /// [`put`](Self::put) the answer or to [`release_lease`](Self::release_lease). Cancel safe.
    fn get<'a>(
        &'a self,
        key: &'a FilterKey,
        usable: &'a (dyn Fn(&Answer) -> bool + Sync),
    ) -> BoxFuture<'a, Result<Answer, Miss>>;

    /// Offers an answer of the present epoch to all instances. Never waits: a full queue drops the answer. An older
    /// answer never replaces a newer one of the same epoch, nor one with less room an answer with more; the value that
    /// caused `miss` is replaced in any case.
    fn put(&self, key: &FilterKey, answer: Answer, miss: Miss);

    /// Lets the other instances read the store themselves: no answer follows on `miss`. Never waits.
    fn release_lease(&self, key: &FilterKey, miss: Miss);

    /// The age at which an entry that still answers should be [`put`](Self::put) again, since the layer forgets it
    /// later. `None`: the layer keeps nothing.
    fn renew_after(&self) -> Option<Duration>;

    /// Drops the entries that `purge` names, and sends the purge to all other instances. `false`: it could not be sent.
    fn purge<'a>(&'a self, purge: &'a Purge) -> BoxFuture<'a, bool>;

    /// What the layer has done, and how its servers are; `None`: it has no servers.
    fn status(&self) -> Option<SharedStatus>;
}

/// What the layer had in the place of a usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Miss {
    /// The header of the value that could not be used, where there was one.
    pub(super) unusable: Option<[u8; HEADER_BYTES]>,
    /// This instance holds the lease: others wait for its answer.
    pub(super) leased: bool,
}

/// No shared layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLayer;

impl SharedLayer for NoLayer {
    fn get<'a>(
        &'a self,
        _: &'a FilterKey,
        _: &'a (dyn Fn(&Answer) -> bool + Sync),
    ) -> BoxFuture<'a, Result<Answer, Miss>> {
        ready(Err(Miss::default())).boxed()
    }

    fn put(&self, _: &FilterKey, _: Answer, _: Miss) {}

    fn release_lease(&self, _: &FilterKey, _: Miss) {}

    fn renew_after(&self) -> Option<Duration> {
        None
    }

    fn purge<'a>(&'a self, _: &'a Purge) -> BoxFuture<'a, bool> {
        ready(false).boxed()
    }

    fn status(&self) -> Option<SharedStatus> {
        None
    }
}
