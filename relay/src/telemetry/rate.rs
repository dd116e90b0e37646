//! A counter exported as a gauge: its growth a second, over the last few seconds. Dashboards can show it as it is.

use super::series::{Handle, LabelFacts, MetricKind, Series};
use metrics::{Gauge, Key, Recorder};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The shortest time between two updates: over less, a rate jumps too much to be read.
const MIN_WINDOW: Duration = Duration::from_secs(1);

/// Counts, and exports how fast the count grows.
#[derive(Debug)]
pub struct Rate {
    count: AtomicU64,
    last: Mutex<(Instant, u64)>,
    gauge: Gauge,
}

impl Rate {
    /// Counts one.
    pub fn increment(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Brings the gauge up to date; does nothing within [`MIN_WINDOW`] of the last update.
    pub(super) fn update(&self, now: Instant) {
        let mut last = self.last.lock();
        let elapsed = now.saturating_duration_since(last.0);
        if elapsed >= MIN_WINDOW {
            let count = self.count.load(Ordering::Relaxed);
            self.gauge.set(count.wrapping_sub(last.1) as f64 / elapsed.as_secs_f64());
            *last = (now, count);
        }
    }
}

impl Series for Rate {
    const KIND: MetricKind = MetricKind::Gauge;
    const LABELS: &'static [LabelFacts] = &[];

    fn register(recorder: &dyn Recorder, name: &'static str) -> Self {
        let gauge = Gauge::with_key(recorder, &Key::from_static_name(name));
        Self { count: AtomicU64::new(0), last: Mutex::new((Instant::now(), 0)), gauge }
    }
}
