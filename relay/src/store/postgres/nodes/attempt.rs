//! Who gets a connection to which server, and what a failure means for the server and for the call.

use super::super::error::{Trouble, translate};
use super::Shared;
use super::node::{Condition, Node, Role};
use super::primary::is_past;
use crate::store::StoreError;
use crate::types::{Epoch, Head, Position};
use smallvec::SmallVec;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection, Postgres};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

/// How often a read that a server was too busy for is begun anew once every server has been tried.
const ROUNDS: usize = 3;
/// How much longer than its server allows a statement a read may take: it may have several, and a connection may be
/// dead without anybody knowing.
const GRACE: Duration = Duration::from_secs(1);
/// How long a read waits for a replica to come as far as it asks, before it uses the primary.
const CATCH_UP: Duration = Duration::from_millis(100);
/// A read that is dropped after running for so long takes its connection along: only that stops the server's work. One that
/// was dropped sooner is waited for as long.
const SHORT: Duration = Duration::from_millis(100);

/// How long a read waits for one of the connections that a replica always has before it takes, or opens, another. A burst
/// of short reads is over sooner by few connections than by as many as there may be; slow ones get those.
const FEW: Duration = Duration::from_millis(200);

/// A connection on loan.
pub(in super::super) struct Lease {
    /// `None` once it was given up.
    connection: Option<PoolConnection<Postgres>>,
    pub(in super::super) server: Server,
}

impl Lease {
    /// The connection, and its server.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once it was [discarded](Self::discard).
    pub(in super::super) fn parts(&mut self) -> Result<(&mut PgConnection, &mut Server), StoreError> {
        let connection = self.connection.as_mut().ok_or(StoreError::Closed)?;
        Ok((connection, &mut self.server))
    }

    /// Closes the connection: nobody knows what it is in the middle of.
    pub(in super::super) fn discard(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.close_on_drop();
        }
    }
}

/// The server that a connection leads to.
pub(in super::super) struct Server {
    node: Arc<Node>,
    pool: PgPool,
    /// The longest that its statements run, by its own clock.
    statement_timeout: Duration,
    /// When what runs now began.
    running: Option<Instant>,
    /// This read decides whether the server is well again.
    on_trial: bool,
    primary_read: Option<OwnedSemaphorePermit>,
    /// It is among the few reads for which the connections are enough that are always there.
    among_few: Option<OwnedSemaphorePermit>,
}

impl Server {
    /// Runs a read: it ends when its server is lost, and, at the latest, somewhat after the server's own limit.
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

    /// A call on this connection failed for a reason that lies with the server: its pool is dropped.
    pub(in super::super) fn distrust(&self, error: &StoreError) {
        self.node.distrust(&self.pool, error);
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Ends when the server is lost; at once where it is already.
    pub(super) async fn lost(&self) {
        self.pool.close_event().await;
    }

    /// It answered; where the answer showed its log's head, with that.
    pub(in super::super) fn answered(&mut self, head: Option<Head>) {
        self.on_trial = false;
        self.node.answered(head);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.on_trial {
            // Dropped before it had an answer: the next read decides.
            self.node.state.lock().on_trial = false;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(since) = self.server.running else { return };
        let Some(mut connection) = self.connection.take() else { return };
        match Handle::try_current() {
            Ok(runtime) if since.elapsed() <= SHORT => {
                // The next read may come once this one no longer needs its connection, not before: else whoever drops
                // reads fast enough would take the connections for writing, too.
                let permits = (self.server.primary_read.take(), self.server.among_few.take());
                runtime.spawn(async move {
                    if !matches!(timeout(SHORT, connection.ping()).await, Ok(Ok(()))) {
                        connection.close_on_drop();
                    }
                    drop((connection, permits));
                });
            }
            _ => connection.close_on_drop(),
        }
    }
}

/// What a server offers to a read.
enum Offer {
    Now,
    /// All connections are at work.
    Queue,
    /// It lags too far, knows nothing of the primary's epoch, or is on trial already: for when there is nothing else.
    Reluctantly,
    /// It has not come as far as the read asks, or had not when it was last looked at.
    NotYet,
    No,
}

/// Places in the list of servers.
type Servers = SmallVec<[usize; 8]>;

/// What an attempt does next.
enum Choice {
    /// Asks this server.
    Server(usize, Role),
    /// Waits for a replica that is about to come far enough.
    Wait,
    /// There is no server that has not been tried.
    Nothing,
}

/// The attempts at one read. Servers take turns; one that fails is not asked again while there are others.
pub(in super::super) struct Attempts {
    shared: Arc<Shared>,
    at_least: Position,
    deadline: Instant,
    /// Until when a replica may catch up.
    catch_up: Instant,
    tried: Servers,
    rounds: usize,
    failure: Option<StoreError>,
}

impl Attempts {
    pub(super) fn new(shared: Arc<Shared>, at_least: Position) -> Self {
        let now = Instant::now();
        let (deadline, catch_up) = (now + shared.options.acquire_timeout, now + CATCH_UP);
        Self { shared, at_least, deadline, catch_up, tried: Servers::new(), rounds: 0, failure: None }
    }

    /// The next server to try. Waits for one, and for a connection, only up to the deadline.
    ///
    /// # Errors
    /// What the last server said, where all have failed; [`StoreError::Overloaded`] where no connection became free in
    /// time, [`StoreError::Unreachable`] where there was no server at all.
    pub(in super::super) async fn next(&mut self) -> Result<Lease, StoreError> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(StoreError::Closed);
            }
            let (at, role) = match self.choose() {
                Choice::Server(at, role) => (at, role),
                Choice::Wait => {
                    // Whether a look ends this or the time does, the next choice knows.
                    let _ = timeout_at(self.catch_up, changed.changed()).await;
                    continue;
                }
                Choice::Nothing => {
                    self.tried.clear();
                    self.rounds += 1;
                    if self.rounds >= ROUNDS
                        && let Some(failure) = self.failure.take()
                    {
                        return Err(failure);
                    }
                    if timeout_at(self.deadline, changed.changed()).await.is_err() {
                        return Err(self.failure.take().unwrap_or(StoreError::Unreachable("database server")));
                    }
                    continue;
                }
            };
            self.tried.push(at);
            let Some(node) = self.shared.nodes.get(at) else { continue };
            let permit = match role {
                Role::Primary => {
                    let permit = timeout_at(self.deadline, self.shared.primary_reads.clone().acquire_owned()).await;
                    Some(permit.map_err(|_| StoreError::Overloaded)?.map_err(|_| StoreError::Closed)?)
                }
                _ => None,
            };
            // Where one server has no connection to give, another one may.
            let patience =
                self.deadline.saturating_duration_since(Instant::now()) / self.shared.nodes.len().max(1) as u32;
            match self.shared.lease(node, permit, Instant::now() + patience).await {
                Ok(lease) => return Ok(lease),
                Err(StoreError::Overloaded) if Instant::now() >= self.deadline => return Err(StoreError::Overloaded),
                Err(failure) => self.failure = Some(failure),
            }
        }
    }

    /// Takes in how an attempt ended. `None`: another one is due.
    pub(in super::super) fn settle<T>(
        &mut self,
        mut lease: Lease,
        result: Result<(T, Option<Head>), StoreError>,
    ) -> Option<Result<T, StoreError>> {
        match result {
            Ok((_, Some(head))) if head.position < self.at_least => {
                // It stands where it was believed to be past; the next look corrects that.
                self.failure = Some(StoreError::Overloaded);
                None
            }
            Ok((value, head)) => {
                lease.server.node.reads.fetch_add(1, Ordering::Relaxed);
                lease.server.answered(head);
                Some(Ok(value))
            }
            Err(error) => match Trouble::of(&error) {
                Trouble::None => {
                    lease.server.answered(None);
                    Some(Err(error))
                }
                trouble => {
                    if trouble == Trouble::Gone {
                        lease.server.distrust(&error);
                        lease.discard();
                    }
                    tracing::debug!(%error, "a read is tried on another server");
                    self.failure = Some(error);
                    None
                }
            },
        }
    }

    /// The server whose turn it is: a replica with a free connection; one where a connection has to be waited for; one
    /// that is about to come far enough; the primary; at last a replica that is behind.
    fn choose(&self) -> Choice {
        let (mut now, mut queue, mut reluctant) = (Servers::new(), Servers::new(), Servers::new());
        let mut late = SmallVec::<[&Node; 8]>::new();
        let epoch = self.shared.history.lock().epoch();
        for (at, node) in self.shared.nodes.iter().enumerate().filter(|(at, _)| !self.tried.contains(at)) {
            match self.offer(node, epoch) {
                Offer::Now => now.push(at),
                Offer::Queue => queue.push(at),
                Offer::Reluctantly => reluctant.push(at),
                Offer::NotYet => late.push(node),
                Offer::No => {}
            }
        }
        // The turn is taken among equals: over all servers, whoever follows one that cannot serve would serve for it.
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let among = |servers: Servers| {
            let at = servers.get(turn.checked_rem(servers.len())?).copied();
            at.map(|at| Choice::Server(at, Role::Replica))
        };
        if let Some(choice) = among(now).or_else(|| among(queue)) {
            return choice;
        }
        if !late.is_empty() && Instant::now() < self.catch_up {
            late.iter().for_each(|node| node.look.notify_one());
            return Choice::Wait;
        }
        match self.shared.current_primary().filter(|at| !self.tried.contains(at)) {
            Some(at) => Choice::Server(at, Role::Primary),
            None => among(reluctant).unwrap_or(Choice::Nothing),
        }
    }

    /// What a replica offers; `epoch` is the primary's.
    fn offer(&self, node: &Node, epoch: Epoch) -> Offer {
        let state = node.state.lock();
        if state.role != Role::Replica || state.pool.is_none() {
            return Offer::No;
        }
        // A position of an epoch that is over says nothing about this one.
        let far_enough = self.at_least.0 == 0 || (state.head.position >= self.at_least && state.head.epoch == epoch);
        match state.condition {
            Condition::Down => Offer::No,
            Condition::Healthy if !far_enough => Offer::NotYet,
            _ if !far_enough => Offer::No,
            Condition::Behind => Offer::Reluctantly,
            // It has not come to this epoch yet, or follows whoever was the primary before.
            _ if is_past(state.head.epoch, epoch) => Offer::Reluctantly,
            Condition::Trial if state.on_trial => Offer::Reluctantly,
            _ if state.is_busy() => Offer::Queue,
            _ => Offer::Now,
        }
    }
}

impl Shared {
    /// A connection from the pool of `node`, in time.
    pub(super) async fn lease(
        &self,
        node: &Arc<Node>,
        primary_read: Option<OwnedSemaphorePermit>,
        deadline: Instant,
    ) -> Result<Lease, StoreError> {
        let waiting = Waiting::new(&node.waiting);
        let is_replica = node.state.lock().role == Role::Replica;
        let few = async { if is_replica { node.few.clone().acquire_owned().await.ok() } else { None } };
        let among_few = timeout_at(deadline.min(Instant::now() + FEW), few).await.ok().flatten();
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
        let server =
            Server { node: node.clone(), pool, statement_timeout, running: None, on_trial, primary_read, among_few };
        let mut lost = server.pool.close_event();
        let connection = timeout_at(deadline, lost.do_until(server.pool.acquire())).await;
        drop(waiting);
        let connection = connection.unwrap_or(Err(sqlx::Error::PoolTimedOut)).flatten();
        match connection.map_err(translate) {
            Ok(connection) => Ok(Lease { connection: Some(connection), server }),
            Err(error) => {
                if matches!(error, StoreError::Overloaded) {
                    node.timeouts.fetch_add(1, Ordering::Relaxed);
                } else {
                    // That no new connection could be made says nothing about those that are there: a name that was not
                    // found, a password that was changed. If the server has gone, the next look at it shows that.
                    tracing::debug!(node = %node.name, %error, "a connection could not be opened");
                    node.look.notify_one();
                }
                Err(error)
            }
        }
    }
}

/// Counts a call among those that wait, for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
