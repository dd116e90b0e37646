//! Figures as a table for people and as JSON for programs.

use super::{Faults, Round};
use crate::stats::{Percentiles, Spread};
use crate::system::{Limits, Machine};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The best that the hardware allows, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Bound {
    /// The bound, in the unit of its row.
    pub value: f64,
    /// How it is derived.
    pub why: String,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The unit of `value` and `bound`.
    pub unit: &'static str,
    /// The figure over all rounds.
    pub value: Spread,
    /// How many rounds.
    pub rounds: usize,
    /// Each percentile's median over the rounds, in microseconds.
    pub latency_us: Option<Percentiles>,
    /// The average number of rows in an answer. With 0 the figure measures nothing: the questions found no events.
    pub rows_per_answer: Option<f64>,
    /// CPU of the relay for one operation, in microseconds, where its process is known.
    pub server_cpu_us: Option<f64>,
    /// CPU of this process for one operation, in microseconds: on a shared machine the relay could not use it.
    pub client_cpu_us: Option<f64>,
    /// The best that the machine allows.
    pub bound: Option<Bound>,
    /// The faults of all rounds. A figure with faults is not worth comparing.
    pub faults: Faults,
}

/// The findings of one run.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The machine.
    pub machine: Machine,
    /// Its limits.
    pub limits: Limits,
    /// How many events were stored before the first measurement.
    pub stored_events: usize,
    /// The seed of all events and questions.
    pub seed: u64,
    /// The figures.
    pub rows: Vec<Row>,
}

impl BenchReport {
    /// True when no figure has faults.
    pub fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| row.faults.is_empty())
    }
}

impl Row {
    /// A figure of one round, without latencies, costs and a bound.
    pub fn new(name: String, unit: &'static str, value: Spread) -> Self {
        Self {
            name,
            unit,
            value,
            rounds: 1,
            latency_us: None,
            rows_per_answer: None,
            server_cpu_us: None,
            client_cpu_us: None,
            bound: None,
            faults: Faults::default(),
        }
    }

    /// Operations a second over several rounds. A round in which nothing succeeded counts as 0.
    pub fn rate(name: impl Into<String>, unit: &'static str, rounds: &[Round]) -> Self {
        let rate = |round: &Round| {
            let seconds = round.wall.as_secs_f64();
            if seconds > 0.0 { round.operations as f64 / seconds } else { 0.0 }
        };
        let value = Spread::of(rounds.iter().map(rate)).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 });
        let operations = rounds.iter().map(|round| round.operations).sum::<u64>();
        let each = |sum: f64| (operations > 0).then(|| sum / operations as f64);
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        let percentiles = rounds.iter().filter_map(|round| round.latency.percentiles()).collect::<Vec<_>>();
        let mut faults = Faults::default();
        rounds.iter().for_each(|round| faults.merge(&round.faults));
        Self {
            rounds: rounds.len(),
            latency_us: Percentiles::median_of(&percentiles),
            server_cpu_us: rounds.iter().map(|round| round.server_cpu.map(micros)).sum::<Option<f64>>().and_then(each),
            client_cpu_us: each(rounds.iter().map(|round| micros(round.client_cpu)).sum()),
            faults,
            ..Self::new(name.into(), unit, value)
        }
    }

    /// Adds the average number of rows in an answer.
    #[must_use]
    pub fn with_rows(mut self, rounds: &[Round]) -> Self {
        let operations = rounds.iter().map(|round| round.operations).sum::<u64>();
        let rows = rounds.iter().map(|round| round.rows).sum::<u64>();
        self.rows_per_answer = (operations > 0).then(|| rows as f64 / operations as f64);
        self
    }

    /// Adds the best that the machine allows.
    #[must_use]
    pub fn with_bound(mut self, value: f64, why: impl Into<String>) -> Self {
        self.bound = Some(Bound { value, why: why.into() });
        self
    }

    /// The header line of the table, whose other lines are the `Display` of each [`Row`].
    pub fn head() -> String {
        format!(
            "{:<32} {:>9} {:>19} {:<12} {:>8} {:>8} {:>8} {:>7} {:>9} {:>9}  {}",
            "",
            "median",
            "min..max",
            "",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "rows",
            "relay µs",
            "client µs",
            "machine's limit"
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { median, min, max } = self.value;
        let range = if self.rounds > 1 { format!("{}..{}", short(min), short(max)) } else { String::new() };
        let number = |value: Option<f64>| value.map(short).unwrap_or_default();
        let millis = |field: fn(&Percentiles) -> f64| {
            self.latency_us.as_ref().map(|latency| format!("{:.2}", field(latency) / 1e3)).unwrap_or_default()
        };
        let bound = self.bound.as_ref().map(|bound| format!("{}: {}", short(bound.value), bound.why));
        write!(
            f,
            "{:<32} {:>9} {range:>19} {:<12} {:>8} {:>8} {:>8} {:>7} {:>9} {:>9}  {}",
            self.name,
            short(median),
            self.unit,
            millis(|latency| latency.p50),
            millis(|latency| latency.p95),
            millis(|latency| latency.p99),
            number(self.rows_per_answer),
            number(self.server_cpu_us),
            number(self.client_cpu_us),
            bound.unwrap_or_default(),
        )?;
        self.faults.0.iter().try_for_each(|(fault, times)| write!(f, "\n  FAULT {times} x {fault}"))
    }
}

/// Three significant digits: 0.57, 5.71, 57.1, 571, 5712.
fn short(value: f64) -> String {
    match value.abs() {
        below if below < 10.0 => format!("{value:.2}"),
        below if below < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(operations: u64, millis: u64, server_millis: Option<u64>) -> Round {
        let server_cpu = server_millis.map(Duration::from_millis);
        Round { operations, wall: Duration::from_millis(millis), server_cpu, rows: operations * 3, ..Round::default() }
    }

    #[test]
    fn a_rate_is_the_median_round_s_and_costs_are_over_all_rounds() {
        let rounds = [round(100, 1_000, Some(100)), round(400, 1_000, Some(100)), round(500, 2_000, Some(300))];
        let row = Row::rate("x", "x/s", &rounds).with_rows(&rounds);
        assert_eq!(row.value, Spread { median: 250.0, min: 100.0, max: 400.0 });
        assert_eq!((row.server_cpu_us, row.rows_per_answer), (Some(500.0), Some(3.0)));
        assert_eq!(Row::rate("x", "x/s", &[round(1, 1, Some(1)), round(1, 1, None)]).server_cpu_us, None);
    }

    #[test]
    fn faults_of_every_round_are_told() {
        let mut broken = round(0, 0, None);
        broken.faults.add("deliveries lost", 3);
        let row = Row::rate("x", "x/s", &[round(10, 1_000, None), broken]);
        assert_eq!(row.value.min, 0.0);
        assert!(row.to_string().contains("FAULT 3 x deliveries lost"), "{row}");
    }
}
