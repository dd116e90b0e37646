//! The figures of one round, and how its time is measured.

use crate::stats::Latency;
use crate::system::{Process, own_cpu};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Faults by name, with how often they happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Faults(pub BTreeMap<String, u64>);

impl Faults {
    /// Adds `times` to the count of `fault`.
    pub fn add(&mut self, fault: &str, times: u64) {
        if times > 0 {
            *self.0.entry(fault.to_owned()).or_default() += times;
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(fault, times)| self.add(fault, *times));
    }

    /// True when there is no fault.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One round of one measurement.
#[derive(Debug, Default)]
pub struct Round {
    /// The number of operations: events accepted, queries answered, or events delivered.
    pub operations: u64,
    /// From the first byte sent to the last answer.
    pub wall: Duration,
    /// The latency of each operation.
    pub latency: Latency,
    /// Rows received, or counted by COUNT, over all operations.
    pub rows: u64,
    /// The faults.
    pub faults: Faults,
    /// CPU time of the relay, where its process is known.
    pub server_cpu: Option<Duration>,
    /// CPU time of this process.
    pub client_cpu: Duration,
}

/// Measures time and CPU over a round.
#[derive(Debug)]
pub struct Meter {
    process: Option<Process>,
    server: Option<Duration>,
    client: Duration,
    start: Instant,
}

impl Meter {
    /// Starts to measure; `pid` is the relay's process id, where it is known.
    pub fn start(pid: Option<u32>) -> Self {
        let process = pid.map(Process);
        Self { process, server: process.and_then(Process::cpu), client: own_cpu(), start: Instant::now() }
    }

    /// When the measurement started.
    pub fn started(&self) -> Instant {
        self.start
    }

    /// Ends the measurement, and sets the times of `round`. The wall time ends at `last`, the time of the last answer.
    pub fn stop(self, last: Instant, round: &mut Round) {
        round.wall = last.saturating_duration_since(self.start);
        let now = self.process.and_then(Process::cpu);
        round.server_cpu = now.zip(self.server).map(|(now, before)| now.saturating_sub(before));
        round.client_cpu = own_cpu().saturating_sub(self.client);
    }
}
