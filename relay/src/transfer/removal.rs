//! Removal by the operator's order, in batches: of what a filter selects, and of everything of a key that has vanished.

use crate::store::rules::Vanish;
use crate::store::{Appended, Store, StoreError};
use crate::types::Filter;
use futures_util::future::BoxFuture;

/// How many events one transaction removes.
const BATCH_EVENTS: usize = 1_000;

/// Removes everything that `filter` selects and returns the number of events. `progress` is called after each batch
/// with the number so far. Not all or nothing: when it fails half way, the batches before are gone.
pub async fn delete(store: &dyn Store, filter: &Filter, progress: impl FnMut(u64) + Send) -> Result<u64, StoreError> {
    in_batches(|| store.remove(filter, BATCH_EVENTS), progress).await
}

/// Removes all events that `vanish` covers, sets the floor below which no event of the key comes in again, and returns
/// the number of events. Calls `progress` after each batch with the number so far. Not atomic: when it fails, the floor
/// is set and the batches before are removed; then the caller can call it again.
pub async fn vanish(store: &dyn Store, vanish: &Vanish, progress: impl FnMut(u64) + Send) -> Result<u64, StoreError> {
    in_batches(|| store.vanish(vanish, BATCH_EVENTS), progress).await
}

/// Calls `remove_batch` until it removes nothing more.
async fn in_batches<'a>(
    remove_batch: impl Fn() -> BoxFuture<'a, Result<Appended, StoreError>> + Send,
    mut progress: impl FnMut(u64) + Send,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let batch = remove_batch().await?.changes.len() as u64;
        removed += batch;
        progress(removed);
        if batch == 0 {
            return Ok(removed);
        }
    }
}
