//! The positions of the primary over time, which turn a replica's lag in positions into a lag in time.

use super::node::Lag;
use crate::types::{Epoch, Head, Position};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The primary's recent positions. Bounded: it keeps what `reach` needs, and merges equal positions.
#[derive(Debug, Default)]
pub(super) struct HeadHistory {
    epoch: Epoch,
    /// When each position was first seen; ascending in both.
    seen: VecDeque<(Instant, Position)>,
    latest: Option<Instant>,
}

impl HeadHistory {
    /// Notes that the primary is at `head`, and forgets all but one of the positions older than `reach`.
    pub(super) fn note(&mut self, head: Head, now: Instant, reach: Duration) {
        if head.epoch != self.epoch || self.seen.back().is_some_and(|(_, last)| *last > head.position) {
            *self = Self { epoch: head.epoch, ..Self::default() };
        }
        if self.seen.back().is_none_or(|(_, last)| *last < head.position) {
            self.seen.push_back((now, head.position));
        }
        while self.seen.get(1).is_some_and(|(at, _)| now.duration_since(*at) > reach) {
            self.seen.pop_front();
        }
        self.latest = Some(now);
    }

    /// The epoch of the last note.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How far a server at `head` is behind the last noted position of the primary. While the primary is gone, no lag
    /// grows.
    pub(super) fn lag(&self, head: Head) -> Lag {
        let (Some((_, last)), Some(latest)) = (self.seen.back(), self.latest) else { return Lag::default() };
        // A server of another epoch has missed all of this one, whatever its position.
        let missed = self.seen.iter().find(|(_, seen)| *seen > head.position || head.epoch != self.epoch);
        Lag {
            positions: last.0.saturating_sub(head.position.0),
            time: missed.map_or(Duration::ZERO, |(at, _)| latest.duration_since(*at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_from_the_first_position_that_is_missed() {
        let (mut history, start) = (HeadHistory::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let head = |position| Head { epoch: Epoch(1), position: Position(position) };
        assert_eq!(history.lag(head(0)), Lag::default(), "nothing is known of a primary");
        for second in 0..20 {
            history.note(head(100 + second * 10), at(second), Duration::from_secs(5));
        }
        assert_eq!(history.lag(head(290)), Lag::default());
        assert_eq!(history.lag(head(275)), Lag { positions: 15, time: Duration::from_secs(1) });
        let far = history.lag(head(0));
        assert!(far.positions == 290 && far.time >= Duration::from_secs(5), "{far:?}");
        assert!(history.seen.len() < 9, "bounded");
        // An idle primary makes no lag, and a failover begins the history anew.
        history.note(head(290), at(100), Duration::from_secs(5));
        assert_eq!(history.lag(head(290)), Lag::default());
        let new = |position| Head { epoch: Epoch(2), position: Position(position) };
        history.note(new(280), at(101), Duration::from_secs(5));
        history.note(new(281), at(103), Duration::from_secs(5));
        assert_eq!(history.lag(new(281)), Lag::default());
        assert_eq!(history.lag(new(280)).positions, 1);
        assert_eq!(history.lag(head(290)).time, Duration::from_secs(2), "what is of the old epoch is behind");
    }
}
