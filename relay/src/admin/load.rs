//! Measures how busy this instance is, for the weight that a load balancer gives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often [`Load::watch`] takes a sample.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// The lateness of an idle runtime, since its timers have steps of a millisecond.
const IDLE_LATENESS: Duration = Duration::from_millis(2);
/// The lateness at which the instance asks for half of its share.
const HALF_SHARE_LATENESS: Duration = Duration::from_millis(20);
/// A sample has the weight 1 / SMOOTHING in the moving average, which so covers some 3 s: one long batch must not send
/// clients to other instances.
const SMOOTHING: u64 = 32;
/// The smallest weight: with less, all new clients would go to the one instance that is still idle.
const MIN_PERCENT: u8 = 10;

/// How late the runtime that serves clients polls its tasks. Everything that keeps this machine's cores busy raises it,
/// other programs included. A slow shared database does not: other instances would be no better for its clients.
#[derive(Debug, Default)]
pub struct Load {
    /// The moving average, in nanoseconds.
    lateness: AtomicU64,
}

impl Load {
    /// The load of an idle instance.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Measures its own runtime. Never ends; to be spawned on the runtime that serves clients.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let due = Instant::now() + SAMPLE_INTERVAL;
            tokio::time::sleep_until(due.into()).await;
            self.record(due.elapsed());
        }
    }

    /// Adds a sample. Only one task may call it: the load and the store are not one atomic step.
    fn record(&self, lateness: Duration) {
        let now = u64::try_from(lateness.saturating_sub(IDLE_LATENESS).as_nanos()).unwrap_or(u64::MAX);
        let mean = self.lateness.load(Ordering::Relaxed);
        self.lateness.store(mean - mean / SMOOTHING + now / SMOOTHING, Ordering::Relaxed);
    }

    /// How late tasks are polled, on average over the last few seconds.
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
                    // Work that does not yield: it blocks the runtime's only thread.
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
