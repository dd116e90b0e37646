//! The report of a run, for people and for programs. `docs/loadtest-report.md` documents the JSON.

pub mod chart;
mod compare;
mod files;
mod picture;
mod terminal;
mod verdict;

pub use chart::{Chart, Line};
pub use compare::{Ratio, compare, ratios};
pub use files::{draw_both, write_all};
pub use picture::draw;
pub use terminal::print;
pub(crate) use terminal::table;
pub use verdict::{Threshold, ThresholdError, judge};

use crate::bench::Faults;
use crate::load::{Cache, Counts, Totals, Workload};
use crate::stats::Summary;
use crate::system::Machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name and version of the JSON's schema: the number rises when a field changes its meaning or goes.
pub const SCHEMA: &str = "skein-loadtest/1";

/// The findings of one command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The tester's version.
    pub version: String,
    /// When it began, in unix seconds.
    pub started_at: u64,
    /// The machine of the tester.
    pub machine: Machine,
    /// The runs in order: one, or one for each step.
    pub runs: Vec<Run>,
    /// The verdict on all runs.
    pub verdict: Verdict,
}

/// The exit status and its reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// 0 clean, 1 correctness violated, 4 thresholds missed.
    pub exit_status: u8,
    /// The violations of correctness.
    pub violations: Vec<String>,
    /// Which thresholds were missed.
    pub missed: Vec<String>,
    /// Limits on how far the figures can be trusted.
    pub notes: Vec<String>,
}

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Its name among the runs: "1000 connections", "cold".
    pub name: String,
    /// What the connections did.
    pub workload: Workload,
    /// The relay's URLs.
    pub urls: Vec<String>,
    /// Connections asked for.
    pub connections: usize,
    /// Most connections that were live at the same time.
    pub connections_live: usize,
    /// The tester's threads.
    pub threads: usize,
    /// Events (or questions, of the query workload) a second that the schedule asked for; none in a closed loop.
    pub rate: Option<f64>,
    /// Events without an OK that a connection may have, in a closed loop.
    pub in_flight: Option<usize>,
    /// How the relay's caches were treated first.
    pub cache: Option<Cache>,
    /// The seed of all random numbers.
    pub seed: u64,
    /// How long the schedule should have run.
    pub duration_seconds: f64,
    /// How long it ran.
    pub ran_seconds: f64,
    /// The ledger.
    pub ledger: Totals,
    /// Subscriptions that an accepted event matched, on average.
    pub matches_per_event: f64,
    /// The counters of the whole run.
    pub counts: Counts,
    /// The counters of the schedule, divided by its seconds.
    pub per_second: BTreeMap<String, f64>,
    /// Latencies in milliseconds, from the time at which something was due: delivery, across, ok, query, query/CLASS,
    /// connect, reconnect.
    pub latency_ms: BTreeMap<String, Summary>,
    /// The resources that the tester itself used.
    pub tester: Tester,
    /// The resources that the relay's processes used, where they were named.
    pub relay: Option<Used>,
    /// The relay's own metrics that changed, before and after the run, where their URL was given.
    pub metrics: Vec<Metric>,
    /// Errors by their words.
    pub errors: Faults,
    /// Remarks for the reader.
    pub notes: Vec<String>,
    /// Second by second.
    pub series: Series,
}

/// The resources that the tester used, and whether it limited the figures itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tester {
    /// CPU time of its threads during the schedule and the drain.
    pub cpu_seconds: f64,
    /// CPU for each message sent or received, in microseconds.
    pub cpu_us_per_message: f64,
    /// Messages a second that would keep one core busy, at that cost.
    pub messages_per_core_second: f64,
    /// The share of one core that the busiest thread used in its busiest ten seconds, in percent.
    pub busiest_thread_percent: f64,
    /// How late events and questions were sent.
    pub lag_ms: Option<Summary>,
    /// How often something waited since no connection took more: the relay was the cause.
    pub blocked: u64,
    /// Its own memory for each connection, in bytes.
    pub bytes_per_connection: f64,
    /// Why the tester, and not the relay, limited the figures; none where it did not.
    pub bottleneck: Option<String>,
}

/// The resources that processes used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Used {
    /// CPU time during the schedule and the drain.
    pub cpu_seconds: f64,
    /// CPU for each message of a client, received or sent, in microseconds.
    pub cpu_us_per_message: f64,
    /// Most memory of their own (RssAnon), in bytes.
    pub memory_bytes: u64,
}

/// One of the relay's metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name and labels.
    pub name: String,
    /// Before the run.
    pub before: f64,
    /// After it.
    pub after: f64,
}

/// Columns of figures, one row a second. Latencies are in milliseconds, and `None` where nothing came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Series {
    /// Seconds since the schedule began.
    pub second: Vec<f64>,
    /// Connections with all their subscriptions.
    pub live: Vec<f64>,
    /// Events sent.
    pub sent: Vec<f64>,
    /// Events accepted.
    pub accepted: Vec<f64>,
    /// Deliveries.
    pub delivered: Vec<f64>,
    /// Questions answered.
    pub answered: Vec<f64>,
    /// Errors.
    pub errors: Vec<f64>,
    /// Latencies of deliveries.
    pub delivery: RunPercentiles,
    /// Latencies of OKs.
    pub ok: RunPercentiles,
    /// Latencies of answers to questions.
    pub query: RunPercentiles,
    /// The busiest tester thread's share of a core, in percent.
    pub tester_cpu: Vec<f64>,
    /// The relay's share of one core, in percent, where its processes were named.
    pub relay_cpu: Vec<f64>,
    /// The whole machine's share of all its cores, in percent.
    pub machine_cpu: Vec<f64>,
}

/// Percentiles second by second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunPercentiles {
    /// Medians.
    pub p50: Vec<Option<f64>>,
    /// 95 of 100 were at most this long.
    pub p95: Vec<Option<f64>>,
    /// 99 of 100 were at most this long.
    pub p99: Vec<Option<f64>>,
}

impl RunPercentiles {
    /// Adds a second.
    pub fn push(&mut self, second: Option<Summary>) {
        self.p50.push(second.map(|second| second.p50));
        self.p95.push(second.map(|second| second.p95));
        self.p99.push(second.map(|second| second.p99));
    }
}
