//! CPU time and memory of processes, from /proc.

use std::fs;
use std::time::Duration;

/// A process, by its id.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

/// A process's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Its own memory (RssAnon): the figure to divide by connections.
    pub anonymous: u64,
    /// All resident memory, with the pages of mapped files (its own code, a memory-mapped database).
    pub resident: u64,
}

impl Process {
    /// CPU time used so far by all its threads, user and system, to 10 ms; `None` once it is gone.
    pub fn cpu(self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        cpu_of(&stat, rustix::param::clock_ticks_per_second())
    }

    /// Its resident memory now; `None` once it is gone.
    pub fn memory(self) -> Option<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let bytes = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        Some(Memory { anonymous: bytes("RssAnon:")?, resident: bytes("VmRSS:")? })
    }
}

/// CPU time that this process used so far.
pub fn own_cpu() -> Duration {
    Process(std::process::id()).cpu().unwrap_or_default()
}

/// CPU time that this thread used so far, in nanoseconds of precision.
pub fn thread_cpu() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// The 14th and 15th field are the times. The 2nd, in parentheses, may contain spaces and parentheses.
fn cpu_of(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64((user + system) as f64 / ticks_per_second as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_are_the_14th_and_15th_field_whatever_the_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 1 0";
        assert_eq!(cpu_of(stat, 100), Some(Duration::from_millis(1_750)));
    }

    #[test]
    fn this_process_has_memory_and_a_dead_one_none() {
        let memory = Process(std::process::id()).memory().unwrap();
        assert!(memory.anonymous > 0 && memory.resident >= memory.anonymous);
        assert_eq!(Process(u32::MAX).memory(), None);
    }
}
