//! The slow-query log: each statement is timed, and one that takes too long is told with the form that it has.

use crate::store::StoreError;
use crate::store::hash::Hasher;
use crate::types::Filter;
use std::future::Future;
use std::time::{Duration, Instant};

/// What reading takes besides a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// The hashes of this database.
    pub(super) hasher: Hasher,
    /// A statement that takes longer is logged.
    pub(super) slow: Duration,
}

/// A statement that takes longer is slow, unless the operator says otherwise.
pub(super) const SLOW: Duration = Duration::from_secs(1);

impl From<&Hasher> for Watch {
    fn from(hasher: &Hasher) -> Self {
        Self { hasher: *hasher, slow: SLOW }
    }
}

/// How much of a filter is told.
const TOLD: usize = 500;

impl Watch {
    /// Runs `statement`; `form` is what `relay explain` would call it.
    pub(super) async fn time<T>(
        &self,
        form: &'static str,
        filter: &Filter,
        statement: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = statement.await;
        let elapsed = begun.elapsed();
        if elapsed >= self.slow {
            let filter: String = filter.to_json().chars().take(TOLD).collect();
            let failed = result.is_err();
            tracing::warn!(form, elapsed_ms = elapsed.as_millis(), failed, filter, "slow query");
        }
        result
    }
}
