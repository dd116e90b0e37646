//! Which server is the primary, and what an answer of a former primary counts.

use super::NodesState;
use super::lease::{Lease, LeasedServer};
use super::node::Node;
use super::role::Role;
use crate::store::StoreError;
use crate::types::Epoch;
use crate::types::safeguard::{Safeguard, ablated};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// The least pause of a call that found no primary, or got no connection to it, before it tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// True where `epoch` is not the primary's, as far as that is known: what happened at its end may be lost.
pub(super) fn is_past(epoch: Epoch, current: Epoch) -> bool {
    epoch != current && current != Epoch::default() && !ablated(Safeguard::PastServers)
}

impl NodesState {
    /// The server that takes writes. After a failover that left the old primary running, two servers may claim the
    /// role. A promotion begins a greater timeline, so a server below the greatest timeline so far is no primary any
    /// more.
    pub(super) fn current_primary(&self) -> Option<usize> {
        let is_primary = |node: &Arc<Node>| {
            let state = node.state.lock();
            state.role == Role::Primary && state.pool.is_some() && !self.is_older(state.timeline)
        };
        self.nodes.iter().position(is_primary)
    }

    /// True where another server was promoted since this one was taken for the primary.
    pub(super) fn was_superseded(&self, node: &Node) -> bool {
        self.is_older(node.state.lock().timeline)
    }

    fn is_older(&self, timeline: u32) -> bool {
        timeline < self.timeline.load(Ordering::Acquire) && !ablated(Safeguard::NewestTimeline)
    }

    /// The known primary.
    pub(super) fn primary_node(&self) -> Option<&Arc<Node>> {
        self.current_primary().and_then(|at| self.nodes.get(at))
    }

    /// A connection to the known primary; waits only for the connection.
    pub(super) async fn primary_now(&self, deadline: Instant) -> Result<Lease, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let node = self.primary_node();
        self.lease(node.ok_or(StoreError::Unreachable("primary"))?, None, deadline).await
    }

    /// A connection to the primary; waits for a primary, too.
    pub(super) async fn primary(&self, deadline: Instant) -> Result<Lease, StoreError> {
        let mut changed = self.changed.subscribe();
        loop {
            match self.primary_now(deadline).await {
                Err(StoreError::Unreachable(_) | StoreError::Database(_)) => {}
                decided => return decided,
            }
            // A probe may have shown nothing new, so there is a pause in any case.
            sleep(PAUSE).await;
            if timeout_at(deadline, changed.changed()).await.is_err() {
                return Err(StoreError::Unreachable("primary"));
            }
        }
    }

    /// Completes when `server` is lost and another one is the primary, or when it has been lost for as long as a call
    /// may wait.
    pub(super) async fn superseded(&self, server: &LeasedServer) {
        if ablated(Safeguard::GiveUp) {
            std::future::pending::<()>().await;
        }
        server.lost().await;
        let deadline = Instant::now() + self.options.acquire_timeout;
        let mut changed = self.changed.subscribe();
        let is_another = || self.primary_node().is_some_and(|node| !Arc::ptr_eq(node, server.node()));
        while !is_another() && timeout_at(deadline, changed.changed()).await.is_ok() {}
    }
}
