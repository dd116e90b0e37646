//! What stands behind the cache in the process: a layer that all instances share.

use super::shared::{HEADER_BYTES, SharedStatus};
use super::{Answer, FilterKey, Purge};
use futures_util::future::{BoxFuture, FutureExt, ready};
use std::time::Duration;

/// A layer that several instances share, asked when the one in the process has nothing.
///
/// # What every layer promises
/// - **It never fails and never hangs.** Whatever happens to it, [`get`](Self::get) answers soon; only the share of hits
///   suffers.
/// - **It guesses nothing.** An entry comes out as some instance put it in, or not at all.
/// - **One flight.** Where several instances miss the same key at the same time, one is told so at once and is to read
///   the store and [`put`](Self::put) what it has read; the others are kept waiting for that, for a bounded time.
pub trait SharedLayer: Send + Sync + 'static {
    /// The answer of `key`, if there is one that is `usable`: with room for as many rows as are asked for, its head not
    /// before the ring's floor and of an epoch that has it in common with the present one. An error: read the store, then
    /// [`put`](Self::put) what was read in this place, or [`release_lease`](Self::release_lease) it. Cancel safe.
    fn get<'a>(
        &'a self,
        key: &'a FilterKey,
        usable: &'a (dyn Fn(&Answer) -> bool + Sync),
    ) -> BoxFuture<'a, Result<Answer, Miss>>;

    /// Offers an answer of the present epoch to all instances. Never waits: where there is no room, nothing is written.
    /// An older one never replaces a newer one of the same epoch, nor one with less room one with more; what made the
    /// place `miss` may be replaced by anything.
    fn put(&self, key: &FilterKey, answer: Answer, miss: Miss);

    /// Nothing is put into the place that was `miss`: others need not wait for it. Never waits.
    fn release_lease(&self, key: &FilterKey, miss: Miss);

    /// After how long an entry that is still asked for should be [`put`](Self::put) again, for it is forgotten later.
    /// `None`: never, for nothing is kept.
    fn renew_after(&self) -> Option<Duration>;

    /// Forgets what `purge` names and tells all other instances to. `false`: they could not be told.
    fn purge<'a>(&'a self, purge: &'a Purge) -> BoxFuture<'a, bool>;

    /// What it has done, and how its servers are; `None`: there are none.
    fn status(&self) -> Option<SharedStatus>;
}

/// A place without an answer that is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Miss {
    /// How what lies there begins, where it is something that cannot be used.
    pub(super) unusable: Option<[u8; HEADER_BYTES]>,
    /// Others wait for what is put there.
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
