//! The findings as text, JSON and a picture.

use super::Hot;
use super::figures::{Buckets, Figures};
use crate::bench::Faults;
use crate::report::{Chart, Line};
use crate::stats::{Latency, Summary};
use crate::system::Machine;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The phases whose figures have targets.
pub(super) const WARM: &str = "warm";
pub(super) const FOURTH: &str = "one more, cold";

/// The raw findings of a run.
pub(super) struct Ran {
    pub(super) keys: usize,
    pub(super) filters_warmed: usize,
    pub(super) import_seconds: f64,
    pub(super) phases: Vec<PhaseReport>,
}

/// The whole report.
#[derive(Debug, Serialize)]
pub struct HotReport {
    /// The machine of all processes.
    pub machine: Machine,
    /// Events in the database.
    pub events: usize,
    /// Different filters.
    pub filters: usize,
    /// How many different keys they have in the cache, which answers a filter with any limit from one entry.
    pub keys: usize,
    /// How many of the filters were asked at least once before the warm phase.
    pub filters_warmed: usize,
    /// Zipf's exponent.
    pub skew: f64,
    /// Instances.
    pub instances: usize,
    /// Replicas of the database.
    pub replicas: usize,
    /// Connections to each instance.
    pub connections: usize,
    /// Events published a second.
    pub rate: f64,
    /// How long the import took, in seconds, with its VACUUM (ANALYZE): index-only scans need that.
    pub import_seconds: f64,
    /// The phases in their order.
    pub phases: Vec<PhaseReport>,
    /// The targets, and whether they were met.
    pub targets: Vec<TargetReport>,
}

/// A target.
#[derive(Debug, Serialize)]
pub struct TargetReport {
    /// What was measured.
    pub what: &'static str,
    /// The target, in words.
    pub wanted: &'static str,
    /// The measured value.
    pub measured: f64,
    /// Whether it meets the target.
    pub met: bool,
}

/// One phase.
#[derive(Debug, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// Answered REQs.
    pub answers: u64,
    /// Answered REQs a second.
    pub per_second: f64,
    /// From the REQ to its EOSE, at the client.
    pub latency_ms: Option<Summary>,
    /// The share of filters that the cache in the process answered.
    pub l1_hit_rate: f64,
    /// The share that the shared cache answered.
    pub l2_hit_rate: f64,
    /// The share that needed no read of the database.
    pub hit_rate: f64,
    /// Reads of the database.
    pub database_reads: f64,
    /// The reads that there would have been without a cache, less `database_reads`.
    pub reads_saved: f64,
    /// Open connections to the database at the end.
    pub database_connections: f64,
    /// How many of them had a read under way, on average over the phase.
    pub database_connections_busy: f64,
    /// The time to get rows from the cache in the process, in milliseconds.
    pub l1_read_ms: PhasePercentiles,
    /// The time to get rows from the shared cache.
    pub l2_read_ms: PhasePercentiles,
    /// The time to get rows that both layers missed, with the looks into them.
    pub miss_ms: PhasePercentiles,
    /// The database's part of the misses, or of all reads where the caches are off.
    pub database_read_ms: PhasePercentiles,
    /// Processor time of the instances for each answer.
    pub relay_cpu_us: f64,
    /// Processor time of the whole machine for each answer: database, Redis and this tester too.
    pub machine_cpu_us: f64,
    /// Events that were published meanwhile and acknowledged.
    pub published: u64,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// The faults.
    pub faults: Vec<(String, u64)>,
}

/// Two percentiles, from the bounds of a histogram.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PhasePercentiles {
    /// The median.
    pub p50: Option<f64>,
    /// 95 of 100 took at most this long.
    pub p95: Option<f64>,
}

/// One second of a phase.
#[derive(Debug, Clone, Serialize)]
pub struct Second {
    /// Answered REQs a second.
    pub per_second: f64,
    /// The share that needed no read of the database.
    pub hit_rate: f64,
    /// Reads of the database a second.
    pub database_reads: f64,
    /// 95 of 100 answers took at most this many milliseconds.
    pub p95_ms: Option<f64>,
}

impl From<&Buckets> for PhasePercentiles {
    fn from(buckets: &Buckets) -> Self {
        Self { p50: buckets.percentile(50.0), p95: buckets.percentile(95.0) }
    }
}

fn share(part: f64, of: f64) -> f64 {
    if of > 0.0 { (part / of).clamp(0.0, 1.0) } else { 0.0 }
}

impl Second {
    pub(super) fn new(answers: u64, wall: Duration, latency: &Latency, grown: &Figures) -> Self {
        let seconds = wall.as_secs_f64();
        Self {
            per_second: answers as f64 / seconds,
            hit_rate: share(grown.l1_hits + grown.l2_hits, grown.asked),
            database_reads: grown.store_reads / seconds,
            p95_ms: latency.summary().map(|summary| summary.p95),
        }
    }
}

/// The raw figures of a phase.
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) wall: Duration,
    pub(super) latency: Latency,
    pub(super) grown: Figures,
    pub(super) busy: Duration,
    pub(super) published: u64,
    pub(super) seconds: Vec<Second>,
    pub(super) faults: Faults,
}

impl PhaseReport {
    pub(super) fn new(measured: Measured) -> Self {
        let Measured { name, wall, latency, grown, busy, published, seconds, faults } = measured;
        let latency_ms = latency.summary();
        let answers = latency_ms.map_or(0, |summary| summary.count);
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / answers.max(1) as f64;
        Self {
            name,
            answers,
            per_second: answers as f64 / wall.as_secs_f64(),
            latency_ms,
            l1_hit_rate: share(grown.l1_hits, grown.asked),
            l2_hit_rate: share(grown.l2_hits, grown.asked),
            hit_rate: share(grown.l1_hits + grown.l2_hits, grown.asked),
            database_reads: grown.store_reads,
            reads_saved: (grown.asked - grown.store_reads).max(0.0),
            database_connections: grown.connections,
            database_connections_busy: grown.store_seconds / wall.as_secs_f64(),
            l1_read_ms: (&grown.from_l1).into(),
            l2_read_ms: (&grown.from_l2).into(),
            miss_ms: (&grown.missed).into(),
            database_read_ms: (&grown.from_store).into(),
            relay_cpu_us: each(grown.cpu),
            machine_cpu_us: each(busy),
            published,
            seconds,
            faults: faults.0.into_iter().collect(),
        }
    }
}

impl fmt::Display for TargetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = if self.met { "met" } else { "MISSED" };
        write!(f, "{}: {:.3}, wanted {}: {met}", self.what, self.measured, self.wanted)
    }
}

impl fmt::Display for PhaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, per_second, answers, database_reads, relay_cpu_us, machine_cpu_us, .. } = self;
        let latency = self.latency_ms.map_or((0.0, 0.0), |summary| (summary.p50, summary.p95));
        let millis = |of: PhasePercentiles| format!("{:.3}/{:.3}", of.p50.unwrap_or(0.0), of.p95.unwrap_or(0.0));
        writeln!(
            f,
            "{name}: {answers} answers, {per_second:.0} REQ/s, p50 {:.2} ms, p95 {:.2} ms; {database_reads:.0} reads of \
             the database, {:.0} saved, {:.0} connections ({:.1} at work); {} events published",
            latency.0,
            latency.1,
            self.reads_saved,
            self.database_connections,
            self.database_connections_busy,
            self.published
        )?;

        write!(
            f,
            "  hits {:.1} % (in the process {:.1} %, shared {:.1} %); rows in p50/p95 ms: process {}, shared {}, miss {}, \
             database {}; CPU of an answer: relay {relay_cpu_us:.0} µs, machine {machine_cpu_us:.0} µs",
            100.0 * self.hit_rate,
            100.0 * self.l1_hit_rate,
            100.0 * self.l2_hit_rate,
            millis(self.l1_read_ms),
            millis(self.l2_read_ms),
            millis(self.miss_ms),
            millis(self.database_read_ms)
        )?;
        self.faults.iter().try_for_each(|(fault, times)| write!(f, "\n  {times} x {fault}"))
    }
}

impl HotReport {
    pub(super) fn new(hot: &Hot, machine: Machine, ran: Ran) -> Self {
        let Hot { events, filters, skew, instances, replicas, connections, rate, .. } = *hot;
        let Ran { keys, filters_warmed, import_seconds, phases } = ran;
        let of = |name: &str| phases.iter().find(|phase| phase.name == name);
        let percent = |name| of(name).map_or(0.0, |phase| 100.0 * phase.hit_rate);
        let l1_p95 = of(WARM).and_then(|phase| phase.l1_read_ms.p95).unwrap_or(f64::NAN);
        let target = |what, wanted, measured, met| TargetReport { what, wanted, measured, met };
        let targets = vec![
            target("answers without the database, warm", "above 90 %", percent(WARM), percent(WARM) > 90.0),
            target("the same on one more instance, cold", "above 70 %", percent(FOURTH), percent(FOURTH) > 70.0),
            target("p95 of a hit in the process, warm", "below 1 ms", l1_p95, l1_p95 < 1.0),
        ];

        Self {
            machine,
            events,
            filters,
            keys,
            filters_warmed,
            skew,
            instances,
            replicas,
            connections,
            rate,
            import_seconds,
            phases,
            targets,
        }
    }

    /// Charts that compare the phases second by second.
    pub fn charts(&self) -> Vec<Chart> {
        let longest = self.phases.iter().map(|phase| phase.seconds.len()).max().unwrap_or(0);
        let x: Vec<f64> = (1..=longest).map(|second| second as f64).collect();
        let lines = |of: fn(&Second) -> Option<f64>| {
            let line = |phase: &PhaseReport| {
                let mut values: Vec<_> = phase.seconds.iter().map(of).collect();
                values.resize(longest, None);
                Line { name: phase.name.clone(), values }
            };
            self.phases.iter().map(line).collect()
        };
        vec![
            Chart::new("Answered REQs", "a second", &x, lines(|second| Some(second.per_second))),
            Chart::new("Answers without the database", "%", &x, lines(|second| Some(100.0 * second.hit_rate))),
            Chart::new("p95 from REQ to EOSE", "ms", &x, lines(|second| second.p95_ms)),
        ]
    }
}
