//! How much of the shared log the follower reads at a time. It doubles after a read in time and falls to a quarter
//! after a late one: a read that can never be in time, because the line is slow or the events are large, would hold up
//! everything after it.

use crate::store::{LogSlice, StoreError};
use std::time::Duration;

/// About how many changes a full read brings.
const FULL_CHANGES: usize = 2_048;

/// How long a read or a poll of the shared log may take. After it the step counts as failed, and is tried again.
pub(super) const SHARED_LOG_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the read of a single entry may take at the most: as long as the server lets a statement run by default.
const MAX_ENTRY_TIMEOUT: Duration = Duration::from_secs(32);

/// A read of this many changes in time shows that the line is healthy.
const HEALTHY_CHANGES: usize = 64;

/// The size of the next read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadBudget {
    /// About how many changes it brings at the most; always a whole entry.
    pub(super) changes: usize,
    /// How long it may take.
    pub(super) timeout: Duration,
}

impl ReadBudget {
    /// What a follower begins with.
    pub(super) const FULL: Self = Self { changes: FULL_CHANGES, timeout: SHARED_LOG_TIMEOUT };

    /// The next budget, after a read with this one has ended with `result`.
    pub(super) fn after(self, result: &Result<LogSlice, StoreError>) -> Self {
        match result {
            Err(StoreError::Timeout) if self.changes > 1 => Self { changes: (self.changes / 4).max(1), ..self },
            // A single entry was too much: it gets more time.
            Err(StoreError::Timeout) => Self { timeout: (self.timeout * 2).min(MAX_ENTRY_TIMEOUT), ..self },
            Err(_) => self,
            Ok(_) => Self {
                changes: (self.changes * 2).min(FULL_CHANGES),
                timeout: if self.changes >= HEALTHY_CHANGES { SHARED_LOG_TIMEOUT } else { self.timeout },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, Head, Position};

    /// Reads entries of `sizes` over a line of `bytes_per_second`; returns the seconds, `None` past an hour.
    fn read(sizes: &[u64], bytes_per_second: u64) -> Option<u64> {
        let (mut budget, mut at, mut millis) = (ReadBudget::FULL, 0, 0);
        while at < sizes.len() {
            // An entry is a change here.
            let asked = &sizes[at..(at + budget.changes).min(sizes.len())];
            let takes = Duration::from_millis(asked.iter().sum::<u64>() * 1_000 / bytes_per_second);
            let head = crate::store::SharedHead { head: Head::default(), base: Position(0), previous: Epoch(0) };
            let result = match takes <= budget.timeout {
                true => Ok(LogSlice { head, entries: Vec::new() }),
                false => Err(StoreError::Timeout),
            };
            millis += takes.min(budget.timeout).as_millis() as u64;
            at += if result.is_ok() { asked.len() } else { 0 };
            budget = budget.after(&result);
            if millis > 3_600_000 {
                return None;
            }
        }
        Some(millis / 1_000)
    }

    #[test]
    fn a_slow_line_and_large_events_do_not_stop_the_follower() {
        // 2,048 of 12 KB would take 2.4 s over 100 Mbit/s.
        let seconds = read(&[12_000; 10_000], 10_000_000).expect("an hour");
        assert!((12..40).contains(&seconds), "{seconds} s for what takes 12 on the line");
        // One of 60 MB among small ones.
        let mut sizes = [1_000; 1_000];
        sizes[500] = 60_000_000;
        let seconds = read(&sizes, 3_000_000).expect("an hour");
        assert!((20..90).contains(&seconds), "{seconds} s for what takes 20");
        // A healthy line brings all at once.
        assert_eq!(ReadBudget::FULL.after(&Err(StoreError::Closed)), ReadBudget::FULL);
        assert_eq!(read(&[1_000; 10_000], 1_000_000_000), Some(0));
    }
}
