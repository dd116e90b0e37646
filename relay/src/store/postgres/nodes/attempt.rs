//! Chooses the server for a read's next attempt, and decides what a failure means for the server and for the read.

use super::super::error::FailureClass;
use super::NodesState;
use super::lease::Lease;
use super::node::{Condition, Node};
use super::primary::is_past;
use super::role::Role;
use crate::store::StoreError;
use crate::types::{Epoch, Head, Position};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Rounds over all servers, before a read that all of them failed fails itself.
const ROUNDS: usize = 3;
/// How long a read waits for a replica to catch up with it, before it uses the primary.
const CATCH_UP: Duration = Duration::from_millis(100);

/// The availability of a replica for a read.
enum Availability {
    Now,
    /// All its connections are in use.
    Queue,
    /// The last resort: it lags too far, does not know the primary's epoch, or is on trial already.
    Reluctantly,
    /// It has not come as far as the read asks, or had not at its last probe.
    NotYet,
    No,
}

/// Indexes into the list of servers.
type ServerList = SmallVec<[usize; 8]>;

/// The next step of a read.
enum Pick {
    /// To ask this server.
    Server(usize, Role),
    /// To wait for a replica that is about to catch up.
    Wait,
    /// Nothing to ask: every server has been tried.
    Nothing,
}

/// The attempts at one read. Servers take turns; one that fails is not asked again while there are others.
pub(in super::super) struct Attempts {
    shared: Arc<NodesState>,
    at_least: Position,
    deadline: Instant,
    /// Until when a replica may catch up.
    catch_up: Instant,
    tried: ServerList,
    rounds: usize,
    failure: Option<StoreError>,
}

impl Attempts {
    pub(super) fn new(shared: Arc<NodesState>, at_least: Position) -> Self {
        let now = Instant::now();
        let (deadline, catch_up) = (now + shared.options.acquire_timeout, now + CATCH_UP);
        Self { shared, at_least, deadline, catch_up, tried: ServerList::new(), rounds: 0, failure: None }
    }

    /// The next server to try. Waits for a server and for a connection, until the deadline.
    ///
    /// # Errors
    /// The last server's error, where all have failed; [`StoreError::Overloaded`] where no connection became free in
    /// time; [`StoreError::Unreachable`] where there was no server at all.
    pub(in super::super) async fn next(&mut self) -> Result<Lease, StoreError> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(StoreError::Closed);
            }
            let (at, role) = match self.choose() {
                Pick::Server(at, role) => (at, role),
                Pick::Wait => {
                    // Whether a probe or the time ends this wait, the next choice sees.
                    let _ = timeout_at(self.catch_up, changed.changed()).await;
                    continue;
                }
                Pick::Nothing => {
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

            // A share of the time: where this server has no free connection, another one may.
            let patience =
                self.deadline.saturating_duration_since(Instant::now()) / self.shared.nodes.len().max(1) as u32;
            match self.shared.lease(node, permit, Instant::now() + patience).await {
                Ok(lease) => return Ok(lease),
                Err(StoreError::Overloaded) if Instant::now() >= self.deadline => return Err(StoreError::Overloaded),
                Err(failure) => self.failure = Some(failure),
            }
        }
    }

    /// Takes the outcome of an attempt. `None`: make another one.
    pub(in super::super) fn settle<T>(
        &mut self,
        mut lease: Lease,
        result: Result<(T, Option<Head>), StoreError>,
    ) -> Option<Result<T, StoreError>> {
        match result {
            Ok((_, Some(head))) if head.position < self.at_least => {
                // The server is behind the position that its last probe reported; the next probe corrects that.
                self.failure = Some(StoreError::Overloaded);
                None
            }
            Ok((value, head)) => {
                lease.server.node().reads.fetch_add(1, Ordering::Relaxed);
                lease.server.answered(head);
                Some(Ok(value))
            }
            Err(error) => match FailureClass::of(&error) {
                FailureClass::None => {
                    lease.server.answered(None);
                    Some(Err(error))
                }
                class => {
                    if class == FailureClass::Gone {
                        lease.server.mark_down(&error);
                        lease.discard();
                    }
                    tracing::debug!(%error, "a read is tried on another server");
                    self.failure = Some(error);
                    None
                }
            },
        }
    }

    /// The next server: a replica with a free connection; one with a queue; one that is about to catch up; the primary;
    /// at last, a replica that is behind.
    fn choose(&self) -> Pick {
        let (mut now, mut queue, mut reluctant) = (ServerList::new(), ServerList::new(), ServerList::new());
        let mut late = SmallVec::<[&Node; 8]>::new();
        let epoch = self.shared.history.lock().epoch();
        for (at, node) in self.shared.nodes.iter().enumerate().filter(|(at, _)| !self.tried.contains(at)) {
            match self.availability(node, epoch) {
                Availability::Now => now.push(at),
                Availability::Queue => queue.push(at),
                Availability::Reluctantly => reluctant.push(at),
                Availability::NotYet => late.push(node),
                Availability::No => {}
            }
        }

        // Each group takes turns of its own. With one turn over all servers, the server after one that cannot serve
        // would serve for both.
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        let take_turn = |servers: ServerList| {
            let at = servers.get(turn.checked_rem(servers.len())?).copied();
            at.map(|at| Pick::Server(at, Role::Replica))
        };

        if let Some(choice) = take_turn(now).or_else(|| take_turn(queue)) {
            return choice;
        }

        if !late.is_empty() && Instant::now() < self.catch_up {
            late.iter().for_each(|node| node.probe_now.notify_one());
            return Pick::Wait;
        }

        match self.shared.current_primary().filter(|at| !self.tried.contains(at)) {
            Some(at) => Pick::Server(at, Role::Primary),
            None => take_turn(reluctant).unwrap_or(Pick::Nothing),
        }
    }

    /// The availability of a replica; `epoch` is the primary's.
    fn availability(&self, node: &Node, epoch: Epoch) -> Availability {
        let state = node.state.lock();
        if state.role != Role::Replica || state.pool.is_none() {
            return Availability::No;
        }

        // A position of a past epoch says nothing about this one.
        let far_enough = self.at_least.0 == 0 || (state.head.position >= self.at_least && state.head.epoch == epoch);

        match state.condition {
            Condition::Down => Availability::No,
            Condition::Healthy if !far_enough => Availability::NotYet,
            _ if !far_enough => Availability::No,
            Condition::Behind => Availability::Reluctantly,
            // It has not reached the primary's epoch yet, or still follows the old primary.
            _ if is_past(state.head.epoch, epoch) => Availability::Reluctantly,
            Condition::Trial if state.on_trial => Availability::Reluctantly,
            _ if state.is_busy() => Availability::Queue,
            _ => Availability::Now,
        }
    }
}
