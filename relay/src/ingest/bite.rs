//! How much of the shared log the follower asks for at a time. A slice that could never be read in time, be the line slow
//! or the events large, would hold up everything after it for good.

use crate::store::{LogSlice, StoreError};
use std::time::Duration;

/// How many changes one read of the shared log brings, about.
const CHANGES: usize = 2_048;
/// After this long the shared log counts as out of order, and is asked anew.
pub(super) const LOG_READ_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that one entry may take: as long as the server lets a statement run by default.
const LONGEST: Duration = Duration::from_secs(32);
/// Where so many changes came in time, the line is as it should be.
const PLENTY: usize = 64;

/// One read: less of it, and at last more time for it, after each that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bite {
    /// At most about so many changes; always a whole entry.
    pub(super) changes: usize,
    /// How long it may take.
    pub(super) patience: Duration,
}

impl Bite {
    pub(super) const WHOLE: Self = Self { changes: CHANGES, patience: LOG_READ_TIMEOUT };

    /// The next one, after this one's result.
    pub(super) fn after(self, result: &Result<LogSlice, StoreError>) -> Self {
        match result {
            Err(StoreError::Timeout) if self.changes > 1 => Self { changes: (self.changes / 4).max(1), ..self },
            Err(StoreError::Timeout) => Self { patience: (self.patience * 2).min(LONGEST), ..self },
            Err(_) => self,
            Ok(_) => Self {
                changes: (self.changes * 2).min(CHANGES),
                patience: if self.changes >= PLENTY { LOG_READ_TIMEOUT } else { self.patience },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, Head, Position};

    /// Reads entries of `sizes` over a line of so many bytes a second; how many seconds that took.
    fn read(sizes: &[u64], bytes_per_second: u64) -> Option<u64> {
        let (mut bite, mut at, mut millis) = (Bite::WHOLE, 0, 0);
        while at < sizes.len() {
            // An entry is a change here.
            let asked = &sizes[at..(at + bite.changes).min(sizes.len())];
            let takes = Duration::from_millis(asked.iter().sum::<u64>() * 1_000 / bytes_per_second);
            let head = crate::store::SharedHead { head: Head::default(), base: Position(0), previous: Epoch(0) };
            let result = match takes <= bite.patience {
                true => Ok(LogSlice { head, entries: Vec::new() }),
                false => Err(StoreError::Timeout),
            };
            millis += takes.min(bite.patience).as_millis() as u64;
            at += if result.is_ok() { asked.len() } else { 0 };
            bite = bite.after(&result);
            if millis > 3_600_000 {
                return None;
            }
        }
        Some(millis / 1_000)
    }

    #[test]
    fn a_slow_line_and_large_events_are_got_over() {
        // 2,048 of 12 KB would take 2.4 s over 100 Mbit/s.
        let seconds = read(&[12_000; 10_000], 10_000_000).expect("an hour");
        assert!((12..40).contains(&seconds), "{seconds} s for what takes 12 on the line");
        // One of 60 MB among small ones.
        let mut sizes = [1_000; 1_000];
        sizes[500] = 60_000_000;
        let seconds = read(&sizes, 3_000_000).expect("an hour");
        assert!((20..90).contains(&seconds), "{seconds} s for what takes 20");
        // A good line is asked for all at once.
        assert_eq!(Bite::WHOLE.after(&Err(StoreError::Closed)), Bite::WHOLE);
        assert_eq!(read(&[1_000; 10_000], 1_000_000_000), Some(0));
    }
}
