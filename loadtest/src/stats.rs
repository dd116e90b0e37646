//! Distributions of latencies, and the spread of a figure over several rounds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest latency that the histogram can hold, in nanoseconds; a longer one counts as this.
const MAX_NANOS: u64 = 300_000_000_000;

/// A distribution of durations, exact to 0.1 %.
#[derive(Debug, Clone)]
pub struct Latency(Histogram<u64>);

/// A [`Latency`] in a report, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The number of durations.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 95 of 100 were at most this long.
    pub p95: f64,
    /// 99 of 100 were at most this long.
    pub p99: f64,
    /// 999 of 1000 were at most this long.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// Percentiles of a [`Latency`], in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// 95 of 100 were at most this long.
    pub p95: f64,
    /// 99 of 100 were at most this long.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// An empty distribution.
    ///
    /// # Panics
    /// Never: the bounds are constants that the histogram takes.
    #[expect(clippy::unwrap_used, reason = "constants within the histogram's documented bounds")]
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1_000, MAX_NANOS, 3).unwrap())
    }

    /// Adds one duration; beyond five minutes it counts as five minutes.
    pub fn record(&mut self, duration: Duration) {
        self.0.saturating_record(duration.as_nanos().min(u128::from(MAX_NANOS)) as u64);
    }

    /// Adds all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        // It fails only where the bounds differ, and all have the same.
        let _ = self.0.add(&other.0);
    }

    /// The distribution in a report's form; `None` while nothing was recorded.
    pub fn summary(&self) -> Option<Summary> {
        let millis = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e6;
        (!self.0.is_empty()).then(|| Summary {
            count: self.0.len(),
            mean: self.0.mean() / 1e6,
            p50: millis(0.5),
            p95: millis(0.95),
            p99: millis(0.99),
            p999: millis(0.999),
            max: self.0.max() as f64 / 1e6,
        })
    }

    /// The percentiles; `None` while nothing was recorded.
    pub fn percentiles(&self) -> Option<Percentiles> {
        if self.0.is_empty() {
            return None;
        }
        let micros = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Some(Percentiles { p50: micros(0.5), p95: micros(0.95), p99: micros(0.99), max: self.0.max() as f64 / 1e3 })
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Percentiles {
    /// Each percentile's median over several rounds.
    pub fn median_of(rounds: &[Self]) -> Option<Self> {
        let each = |field: fn(&Self) -> f64| Spread::of(rounds.iter().map(field)).map(|spread| spread.median);
        Some(Self {
            p50: each(|round| round.p50)?,
            p95: each(|round| round.p95)?,
            p99: each(|round| round.p99)?,
            max: each(|round| round.max)?,
        })
    }
}

/// The middle and the ends of one figure over several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle figure; of an even number of figures, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of `figures`; `None` when there is none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted = figures.into_iter().collect::<Vec<_>>();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::new();
        assert_eq!(latency.percentiles(), None);
        (1..=1_000).rev().for_each(|micros| latency.record(Duration::from_micros(micros)));
        let got = latency.percentiles().unwrap();
        for (got, expected) in [(got.p50, 500.0), (got.p95, 950.0), (got.p99, 990.0), (got.max, 1_000.0)] {
            assert!((got - expected).abs() <= expected * 0.002, "{got} for {expected}");
        }
    }

    #[test]
    fn a_latency_beyond_the_scale_is_not_lost() {
        let mut latency = Latency::new();
        latency.record(Duration::from_secs(4_000));
        latency.record(Duration::ZERO);
        assert!(latency.percentiles().unwrap().max >= 299e6);
    }

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }
}
