//! Deletion by the operator, in batches.

use crate::store::{Store, StoreError};
use crate::types::Filter;

/// How many events one transaction removes.
const BATCH: usize = 1_000;

/// Removes everything that `filter` selects and returns the number of events. `progress` is called after each batch
/// with the number so far. Not all or nothing: when it fails half way, the batches before are gone.
pub async fn delete(
    store: &dyn Store,
    filter: &Filter,
    mut progress: impl FnMut(u64) + Send,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let batch = store.remove(filter, BATCH).await?.changes.len() as u64;
        removed += batch;
        progress(removed);
        if batch == 0 {
            return Ok(removed);
        }
    }
}
