//! Sampled journeys: every stage of some events and REQs is timed.

use super::labels::Stage;
use super::series::{By, Label};
use metrics::Histogram;
use smallvec::SmallVec;
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Chooses the journeys that are measured.
#[derive(Debug, Default)]
pub struct Journeys {
    percent: AtomicU32,
    /// The sum of `percent` over all journeys. A journey that brings it past a multiple of 100 is measured, so the
    /// share is exact and needs no random number.
    due: AtomicU32,
}

impl Journeys {
    /// Measures `percent` of the journeys from now on. Begins with 0: none.
    pub fn set_percent(&self, percent: u32) {
        self.percent.store(percent.min(100), Ordering::Relaxed);
    }

    /// Begins to measure a journey that began at `begun`; `None` for a journey that is not chosen.
    pub fn begin(&self, begun: Instant) -> Option<Box<Trace>> {
        let percent = self.percent.load(Ordering::Relaxed);
        if percent == 0 {
            return None;
        }
        let before = self.due.fetch_add(percent, Ordering::Relaxed);
        let chosen = before / 100 != before.wrapping_add(percent) / 100;
        chosen.then(|| Box::new(Trace { last: begun, spans: SmallVec::new() }))
    }
}

/// One journey under way: how long each stage took, so far.
#[derive(Debug)]
pub struct Trace {
    last: Instant,
    spans: SmallVec<[(Stage, Duration); 5]>,
}

impl Trace {
    /// Notes that `stage` has ended and the next one begins.
    pub fn passed(&mut self, stage: Stage) {
        let now = Instant::now();
        self.spans.push((stage, now.saturating_duration_since(self.last)));
        self.last = now;
    }

    /// Records the stages, and logs them in one line where `relay::journey=debug` is on.
    pub fn finish(self, stages: &By<Stage, Histogram>) {
        for (stage, time) in &self.spans {
            stages.of(*stage).record(*time);
        }
        if tracing::enabled!(target: "relay::journey", tracing::Level::DEBUG) {
            let mut line = String::new();
            for (stage, time) in &self.spans {
                let name = Stage::VALUES.get(stage.index()).copied().unwrap_or_default();
                // Writing to a String cannot fail.
                let _ = write!(line, "{name}={}us ", time.as_micros());
            }
            tracing::debug!(target: "relay::journey", stages = line.trim_end(), "sampled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_was_asked_for_is_measured() {
        for percent in [0, 1, 10, 33, 100, 250] {
            let journeys = Journeys::default();
            journeys.set_percent(percent);
            let measured = (0..1_000).filter(|_| journeys.begin(Instant::now()).is_some()).count();
            assert_eq!(measured, percent.min(100) as usize * 10, "{percent} %");
        }
    }

    #[test]
    fn stages_follow_one_another() {
        let begun = Instant::now() - Duration::from_secs(2);
        let mut trace = Trace { last: begun, spans: SmallVec::new() };
        trace.passed(Stage::EventQueue);
        trace.passed(Stage::EventAdmit);
        assert!(trace.spans[0].1 >= Duration::from_secs(2));
        assert!(trace.spans[1].1 < Duration::from_secs(1));
    }
}
