//! Measures the machine and the relay's processes during a run.

use crate::report::Used;
use crate::system::{Process, machine_cpu};
use std::time::{Duration, Instant};

/// Measures processes and the whole machine between one look and the next.
#[derive(Debug)]
pub(super) struct Watch {
    processes: Vec<Process>,
    first: Option<Duration>,
    last: (Instant, Option<Duration>, (u64, u64)),
    memory: u64,
}

impl Watch {
    pub(super) fn new(pids: &[u32]) -> Self {
        let processes = pids.iter().copied().map(Process).collect::<Vec<_>>();
        let first = cpu(&processes);
        Self { first, last: (Instant::now(), first, machine_cpu()), processes, memory: 0 }
    }

    /// The CPU shares since the last look, in percent: of one core by the processes, and of the machine by all
    /// programs.
    pub(super) fn look(&mut self) -> (f64, f64) {
        let (now, used, machine) = (Instant::now(), cpu(&self.processes), machine_cpu());
        let (then, used_before, machine_before) = std::mem::replace(&mut self.last, (now, used, machine));
        let memory = self.processes.iter().filter_map(|process| process.memory()).map(|memory| memory.anonymous);
        self.memory = self.memory.max(memory.sum());
        let seconds = now.duration_since(then).as_secs_f64().max(1e-9);
        let relay = used.zip(used_before).map_or(0.0, |(now, before)| now.saturating_sub(before).as_secs_f64());
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let (busy, all) = (since(machine.0, machine_before.0), since(machine.1, machine_before.1));
        (100.0 * relay / seconds, if all > 0 { 100.0 * busy as f64 / all as f64 } else { 0.0 })
    }

    /// The CPU time of the processes since the first look, also for each of `messages`; and their greatest memory.
    pub(super) fn used(&self, messages: u64) -> Option<Used> {
        let used = cpu(&self.processes)?.saturating_sub(self.first?).as_secs_f64();
        let each = if messages > 0 { used * 1e6 / messages as f64 } else { 0.0 };
        Some(Used { cpu_seconds: used, cpu_us_per_message: each, memory_bytes: self.memory })
    }
}

/// The sum of the processes' CPU time; `None` where there is no process, or one is gone.
fn cpu(processes: &[Process]) -> Option<Duration> {
    if processes.is_empty() {
        return None;
    }
    processes.iter().map(|process| process.cpu()).sum()
}
