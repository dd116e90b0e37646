//! The servers: which one is the primary, which replicas serve reads, and the connections to them.
//!
//! - `node`: one server and its pool; `probe`: finds out its role and its state; `role`; `history`: turns a lag in
//!   positions into one in time.
//! - `attempt`: a read goes to a replica that has come far enough, in turn; to another one where that fails; at last to
//!   the primary. `lease`: the connection for it. `primary`: a write goes to the present primary.

mod attempt;
mod history;
mod lease;
mod node;
mod primary;
mod probe;
mod role;
#[cfg(test)]
mod tests;

pub(super) use attempt::Attempts;
pub(super) use lease::{Lease, LeasedServer};
pub use node::Condition;
pub use role::Role;

use super::options::Options;
use crate::store::StoreError;
use crate::telemetry::Task;
use crate::types::{Epoch, Position};
use history::HeadHistory;
use node::Node;
use parking_lot::Mutex;
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Connections to the primary that reads never get, so that writing and following always go on.
const RESERVED_FOR_WRITES: u32 = 2;

/// The servers of one store.
pub(super) struct Nodes {
    shared: Arc<NodesState>,
    probers: Mutex<Vec<JoinHandle<()>>>,
}

struct NodesState {
    options: Options,
    nodes: Vec<Arc<Node>>,
    history: Mutex<HeadHistory>,
    /// The greatest timeline of any primary so far.
    timeline: AtomicU32,
    /// The cluster's system identifier, as the first server reported it.
    cluster: Mutex<Option<i64>>,
    /// Counts probes: a call that waits for a server looks again when this moves.
    changed: watch::Sender<u64>,
    /// The turn of the next read.
    turn: AtomicUsize,
    /// Permits for reads on the primary.
    primary_reads: Arc<Semaphore>,
    closed: AtomicBool,
}

/// The state of one server, for an operator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Its URL without the password.
    pub node: String,
    /// The role that it reports.
    pub role: Role,
    /// What it is good for.
    pub condition: Condition,
    /// Its head.
    pub position: u64,
    /// How many positions it is behind the primary.
    pub lag_positions: u64,
    /// For how many seconds it has lacked something that the primary has.
    pub lag_seconds: f64,
    /// Reads that it has answered.
    pub reads: u64,
    /// Open connections in its pool.
    pub connections: u32,
    /// Open connections without work.
    pub idle: u32,
    /// Calls that wait for a connection.
    pub waiting: u64,
    /// Calls that timed out waiting.
    pub timeouts: u64,
}

impl Nodes {
    /// Parses the URLs.
    pub(super) fn new(options: Options) -> Result<Self, StoreError> {
        let node = |url: &crate::config::Redacted| {
            let connect = PgConnectOptions::from_str(url.expose())?;
            let connect = sqlx::ConnectOptions::disable_statement_logging(connect);
            Ok::<_, sqlx::Error>(Arc::new(Node::new(url.to_string(), connect, &options)))
        };
        let nodes = options.urls.iter().map(node).collect::<Result<Vec<_>, _>>()?;

        let most = options.primary_connections.max.saturating_sub(RESERVED_FOR_WRITES).max(1);
        let primary_reads = if nodes.len() == 1 { most } else { options.primary_reads.clamp(1, most) };

        let shared = NodesState {
            options,
            nodes,
            history: Mutex::default(),
            timeline: AtomicU32::new(0),
            cluster: Mutex::default(),
            changed: watch::Sender::new(0),
            turn: AtomicUsize::new(0),
            primary_reads: Arc::new(Semaphore::new(primary_reads as usize)),
            closed: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared), probers: Mutex::default() })
    }

    /// A connection to the primary before the first probe: for migrating the schema.
    pub(super) async fn find_primary(&self) -> Result<PgConnection, StoreError> {
        let found = probe::find_primary(&self.shared.nodes, self.shared.options.connect_timeout).await;
        let (timeline, connection) = found?;
        self.shared.timeline.fetch_max(timeline, Ordering::AcqRel);
        Ok(connection)
    }

    /// A connection of its own to the known primary.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] where none is known, or it does not answer.
    pub(super) async fn connect_to_primary(&self) -> Result<PgConnection, StoreError> {
        let node = self.shared.primary_node().ok_or(StoreError::Unreachable("primary"))?;
        let found = probe::find_primary(std::slice::from_ref(node), self.shared.options.connect_timeout).await;
        found.map(|(_, connection)| connection)
    }

    /// The greatest timeline so far: while it stays the same, so does the primary.
    pub(super) fn timeline(&self) -> u32 {
        self.shared.timeline.load(Ordering::Acquire)
    }

    /// True where another server was promoted since this one was taken for the primary: its answers count for nothing.
    pub(super) fn was_superseded(&self, server: &LeasedServer) -> bool {
        self.shared.was_superseded(server.node())
    }

    /// Completes when `server` is lost and another one is the primary, or when it has been lost for as long as a call
    /// may wait.
    pub(super) async fn superseded(&self, server: &LeasedServer) {
        self.shared.superseded(server).await;
    }

    /// Starts to probe the servers.
    pub(super) fn start(&self) {
        let prober = |node: &Arc<Node>| {
            let (shared, node) = (self.shared.clone(), node.clone());
            let run = move || probe::run(shared.clone(), node.clone());
            self.shared.options.tasks.spawn_restarting(Task::Probe, run)
        };
        *self.probers.lock() = self.shared.nodes.iter().map(prober).collect();
    }

    /// Waits until every server that answers has its minimum of connections open and warm; false where that takes
    /// longer than `patience`. Cancel safe.
    pub(super) async fn warmed(&self, patience: Duration) -> bool {
        let mut changed = self.shared.changed.subscribe();
        let all = async {
            while !self.shared.nodes.iter().all(|node| node.state.lock().is_settled()) {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        timeout(patience, all).await.is_ok()
    }

    /// The attempts at a read that must show at least `at_least`.
    pub(super) fn attempts(&self, at_least: Position) -> Attempts {
        Attempts::new(self.shared.clone(), at_least)
    }

    /// A connection to the primary, for writing or for reading the log. Waits for a primary and for a connection until
    /// `deadline`.
    pub(super) async fn primary(&self, deadline: Instant) -> Result<Lease, StoreError> {
        self.shared.primary(deadline).await
    }

    /// The same for a primary that is known already.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`], at once, where none is known.
    pub(super) async fn primary_now(&self, deadline: Instant) -> Result<Lease, StoreError> {
        self.shared.primary_now(deadline).await
    }

    /// The epoch of the primary at its last probe.
    pub(super) fn epoch(&self) -> Epoch {
        self.shared.history.lock().epoch()
    }

    /// True where `epoch` is not the primary's: what happened at its end may be lost.
    pub(super) fn is_past(&self, epoch: Epoch) -> bool {
        primary::is_past(epoch, self.epoch())
    }

    /// Until when a call that begins now may wait for a server and a connection.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.shared.options.acquire_timeout
    }

    pub(super) fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The state of every server.
    pub(super) fn status(&self) -> Vec<NodeStatus> {
        self.shared.nodes.iter().map(|node| status(node)).collect()
    }

    /// Closes all pools, and waits for the calls under way. Later calls fail with [`StoreError::Closed`].
    pub(super) async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        let probers = std::mem::take(&mut *self.probers.lock());
        for prober in &probers {
            prober.abort();
        }
        for prober in probers {
            // The prober was aborted just now: its result says nothing.
            let _ = prober.await;
        }
        self.shared.changed.send_modify(|looks| *looks = looks.wrapping_add(1));
        let pools: Vec<PgPool> = self.shared.nodes.iter().filter_map(|node| node.state.lock().pool.take()).collect();
        for pool in pools {
            pool.close().await;
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for prober in self.probers.get_mut() {
            prober.abort();
        }
    }
}

fn status(node: &Node) -> NodeStatus {
    let state = node.state.lock();
    let pool = |of: fn(&PgPool) -> u32| state.pool.as_ref().map_or(0, of);
    NodeStatus {
        node: node.name.clone(),
        role: state.role,
        condition: state.condition,
        position: state.head.position.0,
        lag_positions: state.lag.positions,
        lag_seconds: state.lag.time.as_secs_f64(),
        reads: node.reads.load(Ordering::Relaxed),
        connections: pool(PgPool::size),
        idle: pool(|pool| u32::try_from(pool.num_idle()).unwrap_or(u32::MAX)),
        waiting: node.waiting.load(Ordering::Relaxed) as u64,
        timeouts: node.timeouts.load(Ordering::Relaxed),
    }
}
