//! The sizes at which the planner prefers one form or probe to another.

use crate::store::form::RECENT_ROWS;
use std::time::Duration;

/// Where one way becomes better than another. A wrong choice costs time, never an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// The first count of candidates' lists stops here: where one is shorter, it does not matter how much longer the others
    /// are.
    pub first_bound: usize,
    /// Where all are longer, a page is first looked for among so many of the newest rows of one of them, or twice as many as
    /// are wanted: where the filter's conditions meet often, that fills it.
    pub probe_rows: usize,
    /// Where it does not, the lists are counted up to here: that costs less than a wrong choice.
    pub further_bound: usize,
    /// So many of the newest events are looked through where that is likely to fill a page.
    pub recent_rows: usize,
    /// Fewer lists than this are merged at once.
    pub least_lists: usize,
    /// What is known of the newest events is renewed when it is older than this, by the next read that goes by it.
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
