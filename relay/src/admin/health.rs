//! Whether this instance lives and whether it should be sent clients.

use crate::store::postgres::NodeStatus;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How often [`Health::heartbeat`] beats.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// After so long without a beat the runtime that serves clients is taken for dead.
const BEAT_TIMEOUT: Duration = Duration::from_secs(15);

/// Shared by whoever knows how the relay is and the admin thread that tells.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
    nodes: Mutex<Vec<NodeStatus>>,
    created: Instant,
    /// Milliseconds from `created` to the last beat; 0: none yet.
    last_beat: AtomicU64,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    faults: Vec<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Draining,
}

/// Something in this instance, and in it alone, that keeps it from serving. A shared database that is down is none:
/// taking every instance away would help nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is broken, in a word.
    pub part: &'static str,
    /// How, for a person.
    pub message: String,
    /// Since when.
    pub since: SystemTime,
}

/// Whether a load balancer should send clients here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It should.
    Ready,
    /// It should send no new ones and keep the ones it has sent.
    Draining,
    /// It should not: these parts are broken, or have not started yet.
    Broken(Vec<Fault>),
}

impl Health {
    /// An instance that is starting: not ready.
    pub fn new() -> Arc<Self> {
        let starting = Fault { part: "start", message: "still starting".to_owned(), since: SystemTime::now() };
        let state = Mutex::new(State { phase: Phase::Starting, faults: vec![starting] });
        Arc::new(Self { state, nodes: Mutex::default(), created: Instant::now(), last_beat: AtomicU64::new(0) })
    }

    /// Says that everything was started. Does nothing once draining.
    pub fn started(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Starting {
            state.phase = Phase::Serving;
            state.faults.retain(|fault| fault.part != "start");
        }
    }

    /// Says that the relay is stopping. For good.
    pub fn drain(&self) {
        self.state.lock().phase = Phase::Draining;
    }

    /// Says that `part` is broken. Said again, it changes the message and not the time.
    pub fn fail(&self, part: &'static str, message: impl Into<String>) {
        let message = message.into();
        let mut state = self.state.lock();
        match state.faults.iter_mut().find(|fault| fault.part == part) {
            Some(fault) => fault.message = message,
            None => state.faults.push(Fault { part, message, since: SystemTime::now() }),
        }
    }

    /// Says that `part` works again.
    pub fn heal(&self, part: &'static str) {
        self.state.lock().faults.retain(|fault| fault.part != part);
    }

    /// Says how the database servers are.
    pub fn set_nodes(&self, nodes: Vec<NodeStatus>) {
        *self.nodes.lock() = nodes;
    }

    /// How the database servers were a moment ago; empty where there are none.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.nodes.lock().clone()
    }

    /// Whether clients should be sent here.
    pub fn readiness(&self) -> Readiness {
        let state = self.state.lock();
        match (state.phase, state.faults.is_empty()) {
            (Phase::Draining, _) => Readiness::Draining,
            (_, true) => Readiness::Ready,
            (_, false) => Readiness::Broken(state.faults.clone()),
        }
    }

    /// Proves every second that the runtime it runs on still takes turns. Never ends; run it as a task there.
    pub async fn heartbeat(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(BEAT_INTERVAL);
        loop {
            ticks.tick().await;
            self.beat(Instant::now());
        }
    }

    fn beat(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.created).as_millis();
        self.last_beat.store(u64::try_from(millis).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// How long the heart has stood still, if it once beat and has stood still for too long.
    pub fn stuck_for(&self) -> Option<Duration> {
        self.stuck_at(Instant::now())
    }

    fn stuck_at(&self, now: Instant) -> Option<Duration> {
        let last = match self.last_beat.load(Ordering::Relaxed) {
            0 => return None,
            millis => self.created + Duration::from_millis(millis),
        };
        Some(now.saturating_duration_since(last)).filter(|silence| *silence > BEAT_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_parts(health: &Health) -> Vec<&'static str> {
        match health.readiness() {
            Readiness::Broken(faults) => faults.iter().map(|fault| fault.part).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn readiness_follows_what_is_said() {
        let health = Health::new();
        assert_eq!(broken_parts(&health), ["start"]);
        health.started();
        assert_eq!(health.readiness(), Readiness::Ready);
        health.fail("disk", "full");
        health.fail("disk", "still full");
        assert_eq!(broken_parts(&health), ["disk"]);
        health.heal("disk");
        assert_eq!(health.readiness(), Readiness::Ready);
        health.drain();
        health.started();
        health.fail("disk", "full");
        assert_eq!(health.readiness(), Readiness::Draining);
    }

    #[test]
    fn a_heart_that_never_beat_is_not_stuck_and_one_that_stopped_is() {
        let health = Health::new();
        let (start, minute) = (health.created, Duration::from_secs(60));
        assert_eq!(health.stuck_at(start + minute), None);
        health.beat(start + minute);
        assert_eq!(health.stuck_at(start + minute + BEAT_TIMEOUT), None);
        assert_eq!(health.stuck_at(start + minute * 2), Some(minute));
        health.beat(start + minute * 2);
        assert_eq!(health.stuck_at(start + minute * 2), None);
    }
}
