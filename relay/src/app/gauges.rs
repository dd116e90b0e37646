//! What is read now and then rather than counted as it happens.

use crate::admin::Health;
use crate::ingest::Ingest;
use crate::log::Log;
use crate::store::postgres::{Condition, KeeperStatus, NodeStatus, PostgresStore, Role};
use crate::telemetry::{Metrics, ServerRole, ServerState};
use std::sync::Arc;
use std::time::Duration;

/// How often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Never ends; run it as a task.
pub(super) async fn sample(log: Arc<Log>, ingest: Ingest, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut evictions = 0;
    loop {
        ticks.tick().await;
        if let Some(cache) = log.cache() {
            let facts = cache.facts();
            metrics.cache_entries.set(facts.entries as f64);
            metrics.cache_bytes.set(facts.bytes as f64);
            metrics.cache_evictions.increment(facts.evictions.saturating_sub(evictions));
            evictions = facts.evictions;
            for (layer, rate) in cache.hit_rates() {
                metrics.cache_hit_rate.of(layer).set(rate);
            }
        }
        let ring = log.ring_facts();
        metrics.log_head.set(ring.head.0 as f64);
        metrics.ring_positions.set((ring.head.0 - ring.floor.0) as f64);
        metrics.ring_bytes.set(ring.bytes as f64);
        let (subscriptions, filters) = log.subscriptions();
        metrics.subscriptions_active.set(subscriptions as f64);
        metrics.matcher_filters.set(filters as f64);
        metrics.verify_queue.set(ingest.waiting_for_verification() as f64);
    }
}

/// The same for the servers of a store on PostgreSQL. Never ends, either.
pub(super) async fn sample_servers(store: Arc<PostgresStore>, health: Arc<Health>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let (mut timeouts, mut kept) = (0, KeeperStatus::default());
    loop {
        ticks.tick().await;
        let nodes = store.status();
        set_servers(&nodes, &metrics);
        // Counted by the store, shown as a counter.
        let now: u64 = nodes.iter().map(|node| node.timeouts).sum();
        metrics.pool_timeouts.increment(now.saturating_sub(timeouts));
        timeouts = now;
        let keeping = store.keeping();
        metrics.keeper_elected.set(f64::from(u8::from(keeping.elected)));
        metrics.partitions_made.increment(keeping.made.saturating_sub(kept.made));
        metrics.partitions_dropped.increment(keeping.dropped.saturating_sub(kept.dropped));
        metrics.retention_removed.increment(keeping.removed.saturating_sub(kept.removed));
        metrics.keeper_failures.increment(keeping.failures.saturating_sub(kept.failures));
        kept = keeping;
        health.set_nodes(nodes);
    }
}

fn set_servers(nodes: &[NodeStatus], metrics: &Metrics) {
    for (label, role) in [(ServerRole::Primary, Role::Primary), (ServerRole::Replica, Role::Replica)] {
        let of_role = || nodes.iter().filter(|node| node.role == role);
        metrics.pool_connections.of(label).set(f64::from(of_role().map(|node| node.connections).sum::<u32>()));
        metrics.pool_idle.of(label).set(f64::from(of_role().map(|node| node.idle).sum::<u32>()));
        metrics.pool_waiting.of(label).set(of_role().map(|node| node.waiting).sum::<u64>() as f64);
    }
    let count = |wanted: &dyn Fn(&NodeStatus) -> bool| nodes.iter().filter(|node| wanted(node)).count() as f64;
    let serves = |node: &NodeStatus| matches!(node.condition, Condition::Healthy | Condition::Trial);
    metrics.nodes.of(ServerState::Primary).set(count(&|node| node.role == Role::Primary && serves(node)));
    metrics.nodes.of(ServerState::Replica).set(count(&|node| node.role == Role::Replica && serves(node)));
    metrics.nodes.of(ServerState::Behind).set(count(&|node| node.condition == Condition::Behind));
    metrics.nodes.of(ServerState::Down).set(count(&|node| node.condition == Condition::Down));
    let replicas = || nodes.iter().filter(|node| node.role == Role::Replica && node.condition != Condition::Down);
    metrics.replica_lag_positions.set(replicas().map(|node| node.lag_positions).max().unwrap_or(0) as f64);
    metrics.replica_lag.set(replicas().map(|node| node.lag_seconds).fold(0.0, f64::max));
}
