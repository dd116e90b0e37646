//! Leases of connections: how a call gets a connection, and in what state that comes back.

use super::super::error::translate;
use super::NodesState;
use super::node::{Condition, Node};
use super::role::Role;
use crate::store::StoreError;
use crate::telemetry::Task;
use crate::types::Head;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection, Postgres};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The longest that a read may take beyond its server's limit on a statement: it may have several statements, and a
/// connection may be dead without any sign.
const GRACE: Duration = Duration::from_secs(1);
/// A read that is dropped after running for this long closes its connection, which is the only way to stop the server's
/// work. After a shorter time, its answer is awaited for this long.
const DROPPED_READ_GRACE: Duration = Duration::from_millis(100);

/// The pause before a call asks again where no connection could be opened; it doubles up to the second value.
const RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_millis(320);

/// How long a read waits for one of the connections that a replica always has open, before it takes or opens another. A
/// burst of short reads is over sooner on a few connections than on many; slow reads get the others.
const COLD_START_WAIT: Duration = Duration::from_millis(200);

/// A leased connection.
pub(in super::super) struct Lease {
    /// `None` once it was given up.
    connection: Option<PoolConnection<Postgres>>,
    pub(in super::super) server: LeasedServer,
}

impl Lease {
    /// The connection, and its server.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once it was [discarded](Self::discard).
    pub(in super::super) fn parts(&mut self) -> Result<(&mut PgConnection, &mut LeasedServer), StoreError> {
        let connection = self.connection.as_mut().ok_or(StoreError::Closed)?;
        Ok((connection, &mut self.server))
    }

    /// Closes the connection, whose state is unknown.
    pub(in super::super) fn discard(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.close_on_drop();
        }
    }
}

/// The server of a connection.
pub(in super::super) struct LeasedServer {
    node: Arc<Node>,
    pool: PgPool,
    /// The longest that its statements run, by its own clock.
    statement_timeout: Duration,
    /// When the present read began.
    running: Option<Instant>,
    /// This read decides whether the server is well again.
    on_trial: bool,
    primary_read: Option<OwnedSemaphorePermit>,
    /// The read holds one of the slots for the connections that are always open.
    cold_start_slot: Option<OwnedSemaphorePermit>,
}

impl LeasedServer {
    /// Runs a read. It ends when its server is lost, and at the latest a little after the server's own limit.
    pub(in super::super) async fn bound<T>(
        &mut self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.running = Some(Instant::now());
        let mut lost = self.pool.close_event();
        let result = timeout(self.statement_timeout + GRACE, lost.do_until(read)).await;
        match result {
            Ok(Ok(result)) => {
                self.running = None;
                result
            }
            Ok(Err(closed)) => Err(StoreError::Database(closed)),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    /// A call on this connection failed because of the server: drops the server's pool.
    pub(in super::super) fn mark_down(&self, error: &StoreError) {
        self.node.mark_down(&self.pool, error);
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Completes when the server is lost; at once where it is lost already.
    pub(super) async fn lost(&self) {
        self.pool.close_event().await;
    }

    /// The server has answered; `head` is its head, where the answer has that.
    pub(in super::super) fn answered(&mut self, head: Option<Head>) {
        self.on_trial = false;
        self.node.answered(head);
    }
}

impl Drop for LeasedServer {
    fn drop(&mut self) {
        if self.on_trial {
            // Dropped without an answer: the next read decides.
            self.node.state.lock().on_trial = false;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(since) = self.server.running else { return };
        let Some(mut connection) = self.connection.take() else { return };
        match Handle::try_current() {
            Ok(runtime) if since.elapsed() <= DROPPED_READ_GRACE => {
                // The permits are released with the connection, not before. Otherwise a client that drops reads fast
                // enough would take the connections for writing, too.
                let permits = (self.server.primary_read.take(), self.server.cold_start_slot.take());
                let tasks = self.server.node().tasks.clone();
                runtime.spawn(tasks.watched(Task::Pool, async move {
                    if !matches!(timeout(DROPPED_READ_GRACE, connection.ping()).await, Ok(Ok(()))) {
                        connection.close_on_drop();
                    }
                    drop((connection, permits));
                }));
            }
            _ => connection.close_on_drop(),
        }
    }
}

impl NodesState {
    /// A connection from the pool of `node`, by the deadline.
    pub(super) async fn lease(
        &self,
        node: &Arc<Node>,
        primary_read: Option<OwnedSemaphorePermit>,
        deadline: Instant,
    ) -> Result<Lease, StoreError> {
        let waiting = WaitingCall::new(&node.waiting);
        let is_replica = node.state.lock().role == Role::Replica;
        let slot = async { if is_replica { node.cold_start_slots.clone().acquire_owned().await.ok() } else { None } };
        let cold_start_slot = timeout_at(deadline.min(Instant::now() + COLD_START_WAIT), slot).await.ok().flatten();

        let (pool, role, on_trial) = {
            let mut state = node.state.lock();
            let pool = state.pool.clone().ok_or(StoreError::Database(sqlx::Error::PoolClosed))?;
            let on_trial = state.condition == Condition::Trial && !state.on_trial;
            state.on_trial |= on_trial;
            (pool, state.role, on_trial)
        };

        let statement_timeout = match role {
            Role::Primary => self.options.primary_statement_timeout,
            _ => self.options.replica_statement_timeout,
        };

        let server = LeasedServer {
            node: node.clone(),
            pool,
            statement_timeout,
            running: None,
            on_trial,
            primary_read,
            cold_start_slot,
        };

        let connection = acquire(&server, deadline).await;
        drop(waiting);
        match connection.map_err(translate) {
            Ok(connection) => Ok(Lease { connection: Some(connection), server }),
            Err(error) => {
                if matches!(error, StoreError::Overloaded) {
                    node.timeouts.fetch_add(1, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }
}

/// A connection from the server's pool. That no new one can be opened (a name does not resolve, a password was changed)
/// says nothing about the open ones: one of them may become free soon. If the server has gone, its next probe shows
/// that. If the server still gives no connection, it goes on trial: one read at a time tries it.
async fn acquire(server: &LeasedServer, deadline: Instant) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    let mut lost = server.pool.close_event();
    let mut retry = RETRY;
    loop {
        let connection = timeout_at(deadline, lost.do_until(server.pool.acquire())).await;
        match connection.unwrap_or(Err(sqlx::Error::PoolTimedOut)).flatten() {
            Err(error) if !matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => {
                if retry == RETRY {
                    server.node.probe_now.notify_one();
                }
                if retry > LAST_RETRY || timeout_at(deadline, sleep(retry)).await.is_err() {
                    tracing::debug!(node = %server.node.name, %error, "a connection could not be opened");
                    server.node.mark_suspect();
                    return Err(error);
                }
                retry *= 2;
            }
            decided => return decided,
        }
    }
}

/// Counts a waiting call for as long as it exists.
struct WaitingCall<'a>(&'a AtomicUsize);

impl<'a> WaitingCall<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
