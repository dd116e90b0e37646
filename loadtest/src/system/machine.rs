//! Describes the machine: without it a figure means nothing.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::num::NonZero;
use std::time::Duration;

/// The machine, and how busy other programs keep it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: usize,
    /// The CPU's name.
    pub cpu: String,
    /// The kernel's release.
    pub kernel: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Load averages over 1, 5 and 15 minutes before the run: above 0 other programs competed with it.
    pub load: String,
}

impl Machine {
    /// Describes this machine; a field that cannot be read is empty.
    pub fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        Self {
            cores: std::thread::available_parallelism().map_or(1, NonZero::get),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_bytes: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024,
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, cpu, kernel, memory_bytes, load } = self;
        let gib = memory_bytes >> 30;
        write!(f, "{cores} cores of {cpu}, {gib} GiB, Linux {kernel}, load before the run {load}")
    }
}

/// CPU time of all cores so far, busy and total, in clock ticks; equal numbers where it cannot be read.
pub fn machine_cpu() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let times = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let times = times.filter_map(|ticks| ticks.parse::<u64>().ok()).collect::<Vec<_>>();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let idle = times.iter().skip(3).take(2).sum::<u64>();
    let all = times.iter().sum::<u64>();
    (all - idle, all)
}

/// CPU time of all cores so far that was not idle.
pub fn machine_busy() -> Duration {
    Duration::from_secs_f64(machine_cpu().0 as f64 / rustix::param::clock_ticks_per_second().max(1) as f64)
}
