//! One server: its state, and its pool of connections, which lasts as long as its role.

use super::super::options::{Connections, Options};
use super::role::Role;
use crate::store::postgres::plan::SESSION;
use crate::store::postgres::warm::warm;
use crate::task::Tasks;
use crate::telemetry::Task;
use crate::types::Head;
use crate::types::safeguard::{Safeguard, ablated};
use parking_lot::Mutex;
use serde::Serialize;
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// What a server is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It does not answer.
    Down,
    /// It answers again after a failure, and gets one read at a time until one succeeds.
    Trial,
    /// It lags too far.
    Behind,
    /// It serves.
    Healthy,
}

/// How far a replica is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Lag {
    pub(super) positions: u64,
    pub(super) time: Duration,
}

/// The result of one probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeResult {
    pub(super) role: Role,
    /// A primary's timeline: each promotion begins a greater one.
    pub(super) timeline: u32,
    pub(super) head: Head,
}

pub(super) struct NodeState {
    pub(super) role: Role,
    pub(super) timeline: u32,
    pub(super) condition: Condition,
    pub(super) head: Head,
    pub(super) lag: Lag,
    /// A read is under way that decides whether a server on trial is well.
    pub(super) on_trial: bool,
    /// Its loss was logged.
    pub(super) loss_logged: bool,
    /// `None` while the server is down.
    pub(super) pool: Option<PgPool>,
    /// The pool's minimum of connections is open and warm, or that was tried.
    pub(super) warm: bool,
    /// The least number of connections without work at all probes since then.
    pub(super) spare: (usize, Instant),
}

pub(super) struct Node {
    /// The URL without its password.
    pub(super) name: String,
    pub(super) connect: PgConnectOptions,
    pub(super) state: Mutex<NodeState>,
    /// A slot for each connection that a replica always has open.
    pub(super) cold_start_slots: Arc<Semaphore>,
    /// Reads that it has answered.
    pub(super) reads: AtomicU64,
    /// Calls that wait for a connection.
    pub(super) waiting: AtomicUsize,
    /// Calls that timed out waiting.
    pub(super) timeouts: AtomicU64,
    /// Asks for a probe at once.
    pub(super) probe_now: Notify,
    pub(super) tasks: Tasks,
}

impl Node {
    pub(super) fn new(name: String, connect: PgConnectOptions, options: &Options) -> Self {
        let state = NodeState {
            role: Role::Unknown,
            timeline: 0,
            condition: Condition::Down,
            head: Head::default(),
            lag: Lag::default(),
            on_trial: false,
            loss_logged: false,
            pool: None,
            warm: false,
            spare: (usize::MAX, Instant::now()),
        };

        Self {
            name,
            connect,
            state: Mutex::new(state),
            cold_start_slots: Arc::new(Semaphore::new(options.replica_connections.min.max(1) as usize)),
            reads: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            timeouts: AtomicU64::new(0),
            probe_now: Notify::new(),
            tasks: options.tasks.clone(),
        }
    }

    /// Takes the result of a probe. A server with a new role gets a new pool, which is returned: connections of the old
    /// pool were opened for the old role, and some sessions may still have it.
    pub(super) fn seen(&self, probed: ProbeResult, lag: Lag, options: &Options) -> Option<PgPool> {
        let mut state = self.state.lock();
        let mut new = None;
        if state.role != probed.role || state.pool.is_none() {
            let first = state.role == Role::Unknown && state.head == Head::default();
            tracing::info!(node = %self.name, role = ?probed.role, position = probed.head.position.0, "database server");
            let pool = pool(&self.connect, probed.role, options);
            self.retire(state.pool.replace(pool.clone()));
            new = Some(pool);
            // A server that has never failed need not go on trial.
            state.condition = if first { Condition::Healthy } else { Condition::Trial };
            (state.on_trial, state.loss_logged, state.warm) = (false, false, false);
        }

        (state.role, state.timeline, state.head, state.lag) = (probed.role, probed.timeline, probed.head, lag);
        let behind = probed.role == Role::Replica && lag.time > options.max_replica_lag;
        match (state.condition, behind) {
            (Condition::Healthy, true) => {
                tracing::warn!(node = %self.name, positions = lag.positions, seconds = lag.time.as_secs_f64(), "a replica is too far behind and serves no reads");
                state.condition = Condition::Behind;
            }
            (Condition::Behind, false) => {
                tracing::info!(node = %self.name, "a replica has caught up");
                state.condition = Condition::Trial;
            }
            _ => {}
        }
        new
    }

    /// A call on a connection of `pool` failed because of the server: takes the server out of service and asks for a
    /// probe. A failure in a pool that was replaced since says nothing any more.
    pub(super) fn mark_down(&self, pool: &PgPool, why: &dyn Display) {
        if !pool.is_closed() {
            self.lost(why);
            self.probe_now.notify_one();
        }
    }

    /// The server could not give a call a connection: it goes on trial.
    pub(super) fn mark_suspect(&self) {
        let mut state = self.state.lock();
        if state.condition == Condition::Healthy {
            (state.condition, state.on_trial) = (Condition::Trial, false);
        }
    }

    /// Takes the server out of service and drops its connections, with their reads.
    pub(super) fn lost(&self, why: &dyn Display) {
        let mut state = self.state.lock();
        if !state.loss_logged {
            tracing::warn!(node = %self.name, role = ?state.role, %why, "a database server is lost");
            state.loss_logged = true;
        }
        state.condition = Condition::Down;
        self.retire(state.pool.take());
    }

    /// A read was answered, with `head`.
    pub(super) fn answered(&self, head: Option<Head>) {
        let mut state = self.state.lock();
        if state.condition == Condition::Trial {
            tracing::info!(node = %self.name, role = ?state.role, "a database server serves again");
            state.condition = Condition::Healthy;
        }
        state.on_trial = false;
        if let Some(head) = head
            && head.epoch == state.head.epoch
            && head.position > state.head.position
        {
            state.head = head;
        }
    }
}

impl NodeState {
    /// Whether the state of the server is known and, where it answers, its pool is warm.
    pub(super) fn is_settled(&self) -> bool {
        if self.pool.is_some() { self.warm } else { self.loss_logged }
    }

    /// True while every connection that may be open is in use.
    pub(super) fn is_busy(&self) -> bool {
        let full = |pool: &PgPool| pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections();
        self.pool.as_ref().is_some_and(full)
    }
}

impl Node {
    /// Closes a pool: reads and waiting calls end at once; writes run to their end.
    fn retire(&self, pool: Option<PgPool>) {
        if let Some(pool) = pool {
            self.tasks.spawn(Task::Pool, async move { pool.close().await });
        }
    }

    /// Opens the minimum of connections of a new pool, one after the other, each of which is warmed. Ends early where
    /// the server refuses one.
    pub(super) async fn open(&self, pool: PgPool) {
        let (begin, least) = (Instant::now(), pool.options().get_min_connections());
        let mut open = Vec::new();
        while pool.size() < least && !ablated(Safeguard::Warming) {
            match pool.acquire().await {
                Ok(connection) => open.push(connection),
                Err(error) => {
                    tracing::debug!(node = %self.name, %error, "not all connections could be opened beforehand");
                    break;
                }
            }
        }
        tracing::debug!(node = %self.name, connections = pool.size(), took = ?begin.elapsed(), "connections are warm");
        if !pool.is_closed() {
            self.state.lock().warm = true;
        }
    }

    /// Closes connections above the minimum that were without work for the idle timeout; call it at each probe. The
    /// pool's own idle timeout would close the minimum too, and open cold ones every time.
    pub(super) fn shrink(&self, options: &Options) {
        let (pool, spare) = {
            let mut state = self.state.lock();
            let Some(pool) = state.pool.clone() else { return };
            let (spare, since) = (state.spare.0.min(pool.num_idle()), state.spare.1);
            if since.elapsed() < options.idle_timeout {
                state.spare.0 = spare;
                return;
            }
            state.spare = (usize::MAX, Instant::now());
            let above = pool.size().saturating_sub(pool.options().get_min_connections());
            (pool, spare.min(above as usize))
        };
        for connection in (0..spare).map_while(|_| pool.try_acquire()) {
            self.tasks.spawn(Task::Pool, connection.close());
        }
    }
}

/// Prepared statements of a connection: the shapes of filters and the ways to answer them make some hundred.
const STATEMENTS: usize = 256;

/// Acknowledged writes survive a crash, whatever the server's default is: without that, positions would come twice. A
/// session that waits for standbys goes on waiting for them.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') = 'off'";

fn pool(connect: &PgConnectOptions, role: Role, options: &Options) -> PgPool {
    let (Connections { min, max }, statement_timeout) = match role {
        Role::Primary => (options.primary_connections, options.primary_statement_timeout),
        _ => (options.replica_connections, options.replica_statement_timeout),
    };
    let connect =
        connect.clone().statement_cache_capacity(STATEMENTS).application_name("skein").options(SESSION).options([
            ("statement_timeout", statement_timeout.as_millis().to_string()),
            // A relay that stops while it holds the lock on the head must not stop the others.
            ("idle_in_transaction_session_timeout", "1000".to_owned()),
            ("tcp_user_timeout", options.connect_timeout.as_millis().to_string()),
            // A read whose client has gone ends.
            ("client_connection_check_interval", "1000".to_owned()),
        ]);
    PgPoolOptions::new()
        .min_connections(min)
        .max_connections(max)
        .acquire_timeout(options.acquire_timeout)
        // Instead, `shrink` closes them.
        .idle_timeout(None)
        .max_lifetime(options.connection_lifetime)
        // The prober finds out the server's state; a broken connection leads to another attempt.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if role == Role::Primary {
                    connection.execute(sqlx::raw_sql(DURABLE)).await?;
                }
                if !ablated(Safeguard::Warming) {
                    warm(connection, role).await?;
                }
                Ok(())
            })
        })
        .connect_lazy_with(connect)
}
