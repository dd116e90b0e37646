//! How busy this instance is, as a load balancer wants to know it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often [`Load::watch`] takes a sample.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// The lateness of an idle runtime, whose timers tick in milliseconds.
const IDLE_LATENESS: Duration = Duration::from_millis(2);
/// The lateness at which the instance asks for half of its share.
const HALF_SHARE_LATENESS: Duration = Duration::from_millis(20);
/// The weight of one sample in the mean is 1 / SMOOTHING, which makes it a mean over some 3 s: one long batch is no
/// reason to send clients elsewhere.
const SMOOTHING: u64 = 32;
/// The least that an instance asks for: with less, all new clients would go to the last idle one.
const MIN_PERCENT: u8 = 10;

/// How late tasks get their turn on the runtime that serves clients. It rises with whatever keeps this machine's cores
/// busy, other programs included; a slow shared database does not raise it, as other instances would be no better off.
#[derive(Debug, Default)]
pub struct Load {
    /// In nanoseconds, smoothed.
    lateness: AtomicU64,
}

impl Load {
    /// Idle.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Measures the runtime it runs on. Never ends; run it as a task there.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let due = Instant::now() + SAMPLE_INTERVAL;
            tokio::time::sleep_until(due.into()).await;
            self.record(due.elapsed());
        }
    }

    /// Adds a sample. One task alone may call it.
    fn record(&self, lateness: Duration) {
        let now = u64::try_from(lateness.saturating_sub(IDLE_LATENESS).as_nanos()).unwrap_or(u64::MAX);
        let mean = self.lateness.load(Ordering::Relaxed);
        self.lateness.store(mean - mean / SMOOTHING + now / SMOOTHING, Ordering::Relaxed);
    }

    /// How late tasks get their turn, on average over the last few seconds.
    pub fn lateness(&self) -> Duration {
        Duration::from_nanos(self.lateness.load(Ordering::Relaxed))
    }

    /// How much of its share of new clients the instance should get, in percent, from 10 to 100, in steps of 5.
    pub fn weight_percent(&self) -> u8 {
        let busy = Duration::from_nanos(self.lateness.load(Ordering::Relaxed)).as_secs_f64()
            / HALF_SHARE_LATENESS.as_secs_f64();
        let percent = (100.0 / (1.0 + busy) / 5.0).round() * 5.0;
        (percent as u8).max(MIN_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(load: &Load, samples: usize, lateness: Duration) -> u8 {
        for _ in 0..samples {
            load.record(lateness);
        }
        load.weight_percent()
    }

    #[test]
    fn the_weight_falls_with_lateness_and_comes_back() {
        let load = Load::new();
        assert_eq!(load.weight_percent(), 100);
        assert_eq!(after(&load, 100, Duration::from_millis(1)), 100, "a timer's own step is no load");
        assert_eq!(after(&load, 1, Duration::from_millis(50)), 95, "one long turn is little");
        assert_eq!(after(&load, 300, HALF_SHARE_LATENESS + IDLE_LATENESS), 50);
        assert_eq!(after(&load, 300, Duration::from_secs(60)), MIN_PERCENT);
        assert_eq!(after(&load, 1_000, Duration::ZERO), 100);
    }

    /// The control is the first half: the same runtime, idle.
    #[tokio::test]
    async fn a_busy_runtime_is_late() {
        let load = Load::new();
        let watch = tokio::spawn(load.clone().watch());
        let wait = |below: u8| {
            let load = load.clone();
            async move {
                while load.weight_percent() >= below {
                    // Work that does not yield: the runtime's only thread does nothing else meanwhile.
                    let turn = Instant::now();
                    while turn.elapsed() < Duration::from_millis(120) {}
                    tokio::task::yield_now().await;
                }
            }
        };
        assert_eq!(load.weight_percent(), 100);
        tokio::time::timeout(Duration::from_secs(60), wait(90)).await.unwrap();
        watch.abort();
    }
}
