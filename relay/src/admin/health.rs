//! Liveness and readiness of this instance.

use crate::cache::Cache;
use crate::store::postgres::NodeStatus;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// The interval of [`Health::heartbeat`].
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time between two beats. After it the runtime that serves clients counts as stuck.
const BEAT_TIMEOUT: Duration = Duration::from_secs(15);

/// The state of this instance: the stations write it, the admin thread serves it.
#[derive(Debug)]
pub struct Health {
    state: Mutex<ReadinessState>,
    about: Mutex<About>,
    dependencies: Mutex<Vec<Dependency>>,
    nodes: Mutex<Vec<NodeStatus>>,
    cache: OnceLock<Arc<Cache>>,
    inspector: OnceLock<StatisticsQuery>,
    created: Instant,
    /// Milliseconds from `created` to the last beat; 0: none yet.
    last_beat: AtomicU64,
}

/// A function that asks the database for its statistics.
struct StatisticsQuery(Box<dyn Fn() -> BoxFuture<'static, Result<Value, String>> + Send + Sync>);

impl std::fmt::Debug for StatisticsQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inspector")
    }
}

/// Which instance this is, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Where clients connect, host and port.
    pub listen: String,
    /// The name of the store.
    pub store: &'static str,
    /// When the process started.
    pub started: SystemTime,
}

/// A server that instances share: a database server, Redis. The pages show its state, which never makes the instance
/// unready: while a dependency is down the relay still does what it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Its name, without a password.
    pub name: String,
    /// Its state, in a word or two.
    pub state: String,
    /// Whether the relay can use it.
    pub works: bool,
    /// When `works` last changed.
    pub since: SystemTime,
}

#[derive(Debug)]
struct ReadinessState {
    readiness: Readiness,
    /// When this readiness began.
    since: SystemTime,
}

/// Whether a load balancer should send clients here. A shared database that is down changes nothing: else the load
/// balancer would take all instances out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet.
    Starting,
    /// Yes.
    Ready,
    /// No new clients; those that are connected stay.
    Draining,
}

impl Health {
    /// The health of an instance that is starting.
    pub fn new() -> Arc<Self> {
        let started = SystemTime::now();
        let state = Mutex::new(ReadinessState { readiness: Readiness::Starting, since: started });
        let about = Mutex::new(About { listen: String::new(), store: "", started });
        Arc::new(Self {
            state,
            about,
            dependencies: Mutex::default(),
            nodes: Mutex::default(),
            cache: OnceLock::new(),
            inspector: OnceLock::new(),
            created: Instant::now(),
            last_beat: AtomicU64::new(0),
        })
    }

    /// Marks the instance as ready. Does nothing once it drains.
    pub fn set_ready(&self) {
        let mut state = self.state.lock();
        if state.readiness == Readiness::Starting {
            *state = ReadinessState { readiness: Readiness::Ready, since: SystemTime::now() };
        }
    }

    /// Marks the instance as draining; it stays so.
    pub fn set_draining(&self) {
        let mut state = self.state.lock();
        if state.readiness != Readiness::Draining {
            *state = ReadinessState { readiness: Readiness::Draining, since: SystemTime::now() };
        }
    }

    /// The readiness, and when it began.
    pub fn readiness(&self) -> (Readiness, SystemTime) {
        let state = self.state.lock();
        (state.readiness, state.since)
    }

    /// Sets which instance this is: the address for clients, and the name of the store.
    pub fn set_about(&self, listen: String, store: &'static str) {
        let mut about = self.about.lock();
        (about.listen, about.store) = (listen, store);
    }

    /// Which instance this is.
    pub fn about(&self) -> About {
        self.about.lock().clone()
    }

    /// Sets how to ask the database for its statistics. Only the first call counts.
    pub fn set_inspector(&self, ask: impl Fn() -> BoxFuture<'static, Result<Value, String>> + Send + Sync + 'static) {
        // An error says that one is set already, which asks the same database.
        let _ = self.inspector.set(StatisticsQuery(Box::new(ask)));
    }

    /// The statistics of the database; `None` where it keeps none.
    pub async fn inspect(&self) -> Option<Result<Value, String>> {
        Some((self.inspector.get()?.0)().await)
    }

    /// Replaces the dependencies: name, state, whether it works. Keeps `since` where `works` has not changed.
    pub fn set_dependencies(&self, now: impl IntoIterator<Item = (String, String, bool)>) {
        let mut known = self.dependencies.lock();
        let before = std::mem::take(&mut *known);
        known.extend(now.into_iter().map(|(name, state, works)| {
            let same = before.iter().find(|before| before.name == name && before.works == works);
            let since = same.map_or_else(SystemTime::now, |same| same.since);
            Dependency { name, state, works, since }
        }));
    }

    /// The dependencies as of the last [`set_dependencies`](Self::set_dependencies).
    pub fn dependencies(&self) -> Vec<Dependency> {
        self.dependencies.lock().clone()
    }

    /// Sets the cache. Only the first call counts.
    pub fn set_cache(&self, cache: Arc<Cache>) {
        let _ = self.cache.set(cache);
    }

    /// The cache; `None` where there is none, or not yet.
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.get()
    }

    /// Replaces the states of the database servers.
    pub fn set_nodes(&self, nodes: Vec<NodeStatus>) {
        *self.nodes.lock() = nodes;
    }

    /// The states of the database servers as of the last [`set_nodes`](Self::set_nodes); empty where there are none.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.nodes.lock().clone()
    }

    /// Beats every second, which proves that its runtime still polls tasks. Never ends; to be spawned on the runtime
    /// that serves clients.
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

    /// The time since the last beat, where that is more than `BEAT_TIMEOUT`. `None` before the first one.
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

    #[test]
    fn an_instance_starts_serves_and_drains_for_good() {
        let health = Health::new();
        let readiness = || health.readiness().0;
        assert_eq!(readiness(), Readiness::Starting);
        health.set_ready();
        assert_eq!(readiness(), Readiness::Ready);
        health.set_draining();
        health.set_ready();
        assert_eq!(readiness(), Readiness::Draining);
    }

    #[test]
    fn a_dependency_is_shown_and_changes_nothing() {
        let health = Health::new();
        health.set_ready();
        let say = |works: bool| health.set_dependencies([("redis".to_owned(), "a word".to_owned(), works)]);
        say(true);
        let first = health.dependencies();
        say(true);
        assert_eq!(health.dependencies(), first, "since when it works has not changed");
        say(false);
        assert_eq!((health.dependencies()[0].works, health.readiness().0), (false, Readiness::Ready));
        assert!(health.dependencies()[0].since > first[0].since);
    }

    #[test]
    fn a_runtime_that_never_beat_is_not_stuck_and_one_that_stopped_is() {
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
