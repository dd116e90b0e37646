//! Erasure by the operator's order, and the requests to vanish that an import has brought.

use crate::store::rules::Vanish;
use crate::store::{Store, StoreError};

/// How many events one transaction removes.
const BATCH: usize = 1_000;

/// Removes everything that `vanish` covers, sets the floor below which nothing of the key comes in again, and returns
/// the number of events. `progress` is called after each batch with the number so far. Not all or nothing: when it
/// fails half way, the floor stands and the batches before are gone; call it again.
pub async fn vanish(
    store: &dyn Store,
    vanish: &Vanish,
    mut progress: impl FnMut(u64) + Send,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let batch = store.vanish(vanish, BATCH).await?.changes.len() as u64;
        removed += batch;
        progress(removed);
        if batch == 0 {
            return Ok(removed);
        }
    }
}
