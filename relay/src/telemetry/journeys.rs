//! Sampled journeys: of one event or REQ in so many, every stage is timed.

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
    /// In percent of a journey; one is measured with each hundred.
    due: AtomicU32,
}

impl Journeys {
    /// Measures so many journeys of a hundred from now on; 0, which is how it begins: none.
    pub fn set_percent(&self, percent: u32) {
        self.percent.store(percent.min(100), Ordering::Relaxed);
    }

    /// The measurement of a journey that began at `begun`, if it is one of those that are measured.
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
    /// Says that `stage` has ended, and with it begins the next.
    pub fn passed(&mut self, stage: Stage) {
        let now = Instant::now();
        self.spans.push((stage, now.saturating_duration_since(self.last)));
        self.last = now;
    }

    /// Records each stage in `stages`, and tells them in one line of the log where `relay::journey=debug` asks for it.
    pub fn finish(self, stages: &By<Stage, Histogram>) {
        for (stage, time) in &self.spans {
            stages.of(*stage).record(*time);
        }
        if tracing::enabled!(target: "relay::journey", tracing::Level::DEBUG) {
            let mut line = String::new();
            for (stage, time) in &self.spans {
                let name = Stage::VALUES.get(stage.index()).copied().unwrap_or_default();
                // Writing into a text cannot fail.
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
