//! The planner's thresholds.

use crate::store::form::RECENT_ROWS;
use std::time::Duration;

/// Where one way becomes better than another. A wrong choice costs time, never an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// The first count of the candidates' lists stops here: with one shorter list, it does not matter how much longer
    /// the others are.
    pub first_bound: usize,
    /// Where all lists are longer, a probe reads this many of the newest rows of one list, or twice as many as the page
    /// wants. It fills the page where the filter's conditions often meet.
    pub probe_rows: usize,
    /// Where the probe does not fill the page, the lists are counted up to here: that costs less than a wrong choice.
    pub further_bound: usize,
    /// The newest events that are read where they will probably fill the page; also the size of the sample.
    pub recent_rows: usize,
    /// Fewer lists than this are merged without a look at the sample.
    pub least_lists: usize,
    /// The age at which the next read renews the sample.
    pub renewed_after: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            first_bound: 1_000,
            probe_rows: 1_000,
            further_bound: 8_000,
            recent_rows: RECENT_ROWS,
            least_lists: 50,
            renewed_after: Duration::from_secs(10),
        }
    }
}
