//! One server: what is known about it, and its pool of connections, which lives as long as its role.

use super::super::options::{Connections, Options};
use super::role::Role;
use crate::store::postgres::plan::SESSION;
use crate::store::postgres::warm::warm;
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
    /// It answers again after a failure, and is being tried with one read at a time.
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

/// What one look at a server shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    pub(super) role: Role,
    /// A primary's timeline: each promotion begins a greater one.
    pub(super) timeline: u32,
    pub(super) head: Head,
}

pub(super) struct State {
    pub(super) role: Role,
    pub(super) timeline: u32,
    pub(super) condition: Condition,
    pub(super) head: Head,
    pub(super) lag: Lag,
    /// A read is out that decides whether a server on trial is well.
    pub(super) on_trial: bool,
    /// Its loss was told.
    pub(super) told: bool,
    /// `None` while the server is down.
    pub(super) pool: Option<PgPool>,
    /// The least connections of this pool are open and warm, or it was tried.
    pub(super) warm: bool,
    /// How many connections were without work at every look since then.
    pub(super) spare: (usize, Instant),
}

pub(super) struct Node {
    /// The URL without its password.
    pub(super) name: String,
    pub(super) connect: PgConnectOptions,
    pub(super) state: Mutex<State>,
    /// As many reads as a replica has connections at the least.
    pub(super) cold_start_slots: Arc<Semaphore>,
    /// Reads that it has answered.
    pub(super) reads: AtomicU64,
    /// Calls that wait for a connection.
    pub(super) waiting: AtomicUsize,
    /// Calls that waited in vain.
    pub(super) timeouts: AtomicU64,
    /// Asks the prober to look at once.
    pub(super) look: Notify,
}

impl Node {
    pub(super) fn new(name: String, connect: PgConnectOptions, options: &Options) -> Self {
        let state = State {
            role: Role::Unknown,
            timeline: 0,
            condition: Condition::Down,
            head: Head::default(),
            lag: Lag::default(),
            on_trial: false,
            told: false,
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
            look: Notify::new(),
        }
    }

    /// Takes in what a look has shown. A server with a new role gets a new pool, which is returned: its old connections
    /// were opened for the other role, and some may still think so.
    pub(super) fn seen(&self, sighting: Sighting, lag: Lag, options: &Options) -> Option<PgPool> {
        let mut state = self.state.lock();
        let mut new = None;
        if state.role != sighting.role || state.pool.is_none() {
            let first = state.role == Role::Unknown && state.head == Head::default();
            tracing::info!(node = %self.name, role = ?sighting.role, position = sighting.head.position.0, "database server");
            let pool = pool(&self.connect, sighting.role, options);
            retire(state.pool.replace(pool.clone()));
            new = Some(pool);
            // What has never failed need not prove itself.
            state.condition = if first { Condition::Healthy } else { Condition::Trial };
            (state.on_trial, state.told, state.warm) = (false, false, false);
        }
        (state.role, state.timeline, state.head, state.lag) = (sighting.role, sighting.timeline, sighting.head, lag);
        let behind = sighting.role == Role::Replica && lag.time > options.max_replica_lag;
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

    /// A call on a connection of `pool` has met a failure that speaks of the server: takes it out and has it looked at
    /// again. What was met in a pool that was replaced since means nothing any more.
    pub(super) fn mark_down(&self, pool: &PgPool, why: &dyn Display) {
        if !pool.is_closed() {
            self.lost(why);
            self.look.notify_one();
        }
    }

    /// It could not give a call a connection: it has to prove itself again.
    pub(super) fn mark_suspect(&self) {
        let mut state = self.state.lock();
        if state.condition == Condition::Healthy {
            (state.condition, state.on_trial) = (Condition::Trial, false);
        }
    }

    /// Takes the server out and drops its connections, running reads included.
    pub(super) fn lost(&self, why: &dyn Display) {
        let mut state = self.state.lock();
        if !state.told {
            tracing::warn!(node = %self.name, role = ?state.role, %why, "a database server is lost");
            state.told = true;
        }
        state.condition = Condition::Down;
        retire(state.pool.take());
    }

    /// A read was answered with `head`.
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

impl State {
    /// Whether it is known how the server is, and, where it answers, its pool is warm.
    pub(super) fn is_settled(&self) -> bool {
        if self.pool.is_some() { self.warm } else { self.told }
    }

    /// True while every connection that may be open is at work.
    pub(super) fn is_busy(&self) -> bool {
        let full = |pool: &PgPool| pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections();
        self.pool.as_ref().is_some_and(full)
    }
}

/// Closes a pool: who waits for a connection and who reads is told at once; writes come to their end.
fn retire(pool: Option<PgPool>) {
    if let Some(pool) = pool {
        tokio::spawn(async move { pool.close().await });
    }
}

impl Node {
    /// Opens the least connections of a new pool, one after the other; each is warm then. Ends early where the server
    /// does not give them.
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

    /// To be called at each look: closes the connections above the least number that nobody has needed for the idle
    /// timeout. The pool's own idle timeout would close the least ones too, and open them again, cold, every time.
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
            tokio::spawn(connection.close());
        }
    }
}

/// Prepared statements that a connection keeps: filters have some hundred shapes and ways to be answered.
const STATEMENTS: usize = 256;

/// What was acknowledged survives a crash whatever the server does by default: after one, positions would come twice. Who
/// waits for standbys goes on waiting for them.
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
            // A relay that stops while it holds the head's lock must not stop the others.
            ("idle_in_transaction_session_timeout", "1000".to_owned()),
            ("tcp_user_timeout", options.connect_timeout.as_millis().to_string()),
            // A read whose reader has gone is not worth its time.
            ("client_connection_check_interval", "1000".to_owned()),
        ]);
    PgPoolOptions::new()
        .min_connections(min)
        .max_connections(max)
        .acquire_timeout(options.acquire_timeout)
        // See `shrink`.
        .idle_timeout(None)
        .max_lifetime(options.connection_lifetime)
        // The prober says how the server is; a connection that broke is met with another attempt.
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
