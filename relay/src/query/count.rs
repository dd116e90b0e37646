//! COUNT (NIP-45): how many distinct events match.

use super::{Queries, QueryError, QueryLimits};
use crate::types::{Access, Filter, now};

impl Queries {
    /// Counts the distinct events that at least one of `filters` selects and this reader may see. The count holds at
    /// some position at or after everything that this instance has acknowledged.
    pub async fn count(&self, filters: &[Filter], access: &Access, limits: QueryLimits) -> Result<u64, QueryError> {
        self.reach(self.log.acknowledged(), limits).await?;
        Ok(self.timed(filters, self.store.count(filters, access, now())).await?)
    }
}
