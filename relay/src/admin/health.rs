//! Whether this instance lives and whether it should be sent clients.

use crate::store::postgres::NodeStatus;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// How often [`Health::heartbeat`] beats.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// After so long without a beat the runtime that serves clients is taken for dead.
const BEAT_TIMEOUT: Duration = Duration::from_secs(15);

/// Shared by whoever knows how the relay is and the admin thread that tells.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
    about: Mutex<About>,
    dependencies: Mutex<Vec<Dependency>>,
    nodes: Mutex<Vec<NodeStatus>>,
    inspector: OnceLock<Inspector>,
    created: Instant,
    /// Milliseconds from `created` to the last beat; 0: none yet.
    last_beat: AtomicU64,
}

/// Asks the database for its statistics.
struct Inspector(Box<dyn Fn() -> BoxFuture<'static, Result<Value, String>> + Send + Sync>);

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inspector")
    }
}

/// Which instance this is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Where clients connect, host and port.
    pub listen: String,
    /// What keeps the events.
    pub store: &'static str,
    /// When the process started.
    pub started: SystemTime,
}

/// Something shared that the relay leans on: a database server, Redis. While it is down the relay does what it can, so it
/// is told, and never makes the instance unready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Its name, without a password.
    pub name: String,
    /// How it is, in a word or two.
    pub state: String,
    /// Whether it does what it is there for.
    pub works: bool,
    /// Since when that has been so.
    pub since: SystemTime,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// When the phase began.
    since: SystemTime,
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
        let started = starting.since;
        let state = Mutex::new(State { phase: Phase::Starting, since: started, faults: vec![starting] });
        let about = Mutex::new(About { listen: String::new(), store: "", started });
        Arc::new(Self {
            state,
            about,
            dependencies: Mutex::default(),
            nodes: Mutex::default(),
            inspector: OnceLock::new(),
            created: Instant::now(),
            last_beat: AtomicU64::new(0),
        })
    }

    /// Says that everything was started. Does nothing once draining.
    pub fn started(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Starting {
            state.phase = Phase::Serving;
            state.since = SystemTime::now();
            state.faults.retain(|fault| fault.part != "start");
        }
    }

    /// Says that the relay is stopping. For good.
    pub fn drain(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Draining {
            state.phase = Phase::Draining;
            state.since = SystemTime::now();
        }
    }

    /// Since when it has been starting, serving or draining.
    pub fn phase_since(&self) -> SystemTime {
        self.state.lock().since
    }

    /// Says which instance this is: where clients connect, and what keeps the events.
    pub fn set_about(&self, listen: String, store: &'static str) {
        let mut about = self.about.lock();
        (about.listen, about.store) = (listen, store);
    }

    /// Which instance this is.
    pub fn about(&self) -> About {
        self.about.lock().clone()
    }

    /// Says whom to ask for the statistics of the database. Once.
    pub fn set_inspector(&self, ask: impl Fn() -> BoxFuture<'static, Result<Value, String>> + Send + Sync + 'static) {
        // A second one would be of the same database.
        let _ = self.inspector.set(Inspector(Box::new(ask)));
    }

    /// The statistics of the database; `None` where it keeps none.
    pub async fn inspect(&self) -> Option<Result<Value, String>> {
        Some((self.inspector.get()?.0)().await)
    }

    /// Says how all that is shared is: name, state, whether it works. Said again, times stay where that has not changed.
    pub fn set_dependencies(&self, now: impl IntoIterator<Item = (String, String, bool)>) {
        let mut known = self.dependencies.lock();
        let before = std::mem::take(&mut *known);
        known.extend(now.into_iter().map(|(name, state, works)| {
            let same = before.iter().find(|before| before.name == name && before.works == works);
            let since = same.map_or_else(SystemTime::now, |same| same.since);
            Dependency { name, state, works, since }
        }));
    }

    /// How all that is shared was a moment ago.
    pub fn dependencies(&self) -> Vec<Dependency> {
        self.dependencies.lock().clone()
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
    fn what_is_shared_is_told_and_changes_nothing() {
        let health = Health::new();
        health.started();
        let say = |works: bool| health.set_dependencies([("redis".to_owned(), "a word".to_owned(), works)]);
        say(true);
        let first = health.dependencies();
        say(true);
        assert_eq!(health.dependencies(), first, "since when it works has not changed");
        say(false);
        assert_eq!((health.dependencies()[0].works, health.readiness()), (false, Readiness::Ready));
        assert!(health.dependencies()[0].since > first[0].since);
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
