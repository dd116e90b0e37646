//! Samples what is not counted as it happens. A source that counts since the start is copied into a counter.

use crate::admin::{Health, Load, Readiness};
use crate::cache::shared::SharedStatus;
use crate::ingest::Ingest;
use crate::log::Log;
use crate::memory::{AllocatorBytes, ClientMemory, HeldFor};
use crate::store::postgres::{Condition, NodeStatus, PostgresStore, Role};
use crate::store::sqlite::SqliteStore;
use crate::telemetry::{Direction, Metrics, ServerRole, ServerState, SharedLook, SharedWrite};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How often each task here samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Samples the log, the cache, the queues of ingest and the account of memory. Never ends; run it as a task.
pub(super) async fn sample(log: Arc<Log>, ingest: Ingest, memory: Arc<ClientMemory>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        ticks.tick().await;
        if let Some(cache) = log.cache() {
            let facts = cache.facts();
            metrics.cache_entries.set(facts.entries as f64);
            metrics.cache_bytes.set(facts.bytes as f64);
            metrics.cache_evictions.absolute(facts.evictions);
            if let Some(status) = cache.shared_layer().status() {
                set_shared(&status, &metrics);
            }
            for (layer, rate) in cache.hit_rates() {
                metrics.cache_hit_rate.of(layer).set(rate);
            }
        }
        for what in HeldFor::ALL {
            metrics.client_bytes.of(what).set(memory.held_for(what) as f64);
        }
        metrics.client_limit.set(memory.total_bytes() as f64);
        if let Some(heap) = AllocatorBytes::read() {
            metrics.allocated.set(heap.allocated as f64);
        }
        metrics.client_waiting.set(memory.waiting() as f64);
        let ring = log.ring_facts();
        metrics.log_head.set(ring.head.0 as f64);
        metrics.ring_positions.set((ring.head.0 - ring.floor.0) as f64);
        metrics.ring_bytes.set(ring.bytes as f64);
        let (subscriptions, filters) = log.subscriptions();
        metrics.subscriptions_active.set(subscriptions as f64);
        metrics.matcher_filters.set(filters as f64);
        metrics.admit_queue.set(ingest.waiting_for_admission() as f64);
        metrics.verify_queue.set(ingest.waiting_for_verification() as f64);
        let matcher = log.matcher_stats();
        metrics.matcher_events.absolute(matcher.events);
        metrics.matcher_candidates.absolute(matcher.candidates);
        metrics.matcher_hits.absolute(matcher.hits);
    }
}

/// What [`sample_machine`] reads.
pub(super) struct Machine {
    /// A path on the file system whose free space is sampled.
    pub(super) disk: PathBuf,
    pub(super) health: Arc<Health>,
    pub(super) load: Arc<Load>,
    /// The store, if it is SQLite.
    pub(super) sqlite: Option<Arc<SqliteStore>>,
    /// The bus between instances, where there is one: its server without a password, and whether messages arrive.
    pub(super) bus: Option<(String, watch::Receiver<bool>)>,
}

impl Machine {
    /// Everything that instances share: name, state, whether it works.
    fn dependencies(&self) -> Vec<(String, String, bool)> {
        let server = |node: &NodeStatus| {
            let condition = format!("{:?}", node.condition).to_lowercase();
            let works = !matches!(node.condition, Condition::Down | Condition::Behind);
            (node.node.clone(), format!("{} {condition}", format!("{:?}", node.role).to_lowercase()), works)
        };
        let mut dependencies: Vec<_> = self.health.nodes().iter().map(server).collect();
        dependencies.extend(self.bus.as_ref().map(|(name, up)| {
            let works = *up.borrow();
            (name.clone(), if works { "up" } else { "down" }.to_owned(), works)
        }));
        dependencies
    }
}

/// Samples the machine and the runtime that serves clients, on which it must run. Never ends.
pub(super) async fn sample_machine(machine: Arc<Machine>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    let (mut busy, mut sampled_at) = (Duration::ZERO, Instant::now());
    let mut cpu = cpu_time();
    loop {
        ticks.tick().await;
        machine.health.set_dependencies(machine.dependencies());
        metrics.ready.set(f64::from(u8::from(machine.health.readiness().0 == Readiness::Ready)));
        metrics.runtime_lateness.set(machine.load.lateness().as_secs_f64());
        if let Ok(disk) = rustix::fs::statvfs(&machine.disk) {
            metrics.disk_free.set((disk.f_bavail * disk.f_frsize) as f64);
            metrics.disk_size.set((disk.f_blocks * disk.f_frsize) as f64);
        }
        let runtime = Handle::current().metrics();
        metrics.runtime_tasks.set(runtime.num_alive_tasks() as f64);
        metrics.runtime_queue.set(runtime.global_queue_depth() as f64);
        let workers = runtime.num_workers();
        let total: Duration = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        let elapsed = sampled_at.elapsed().as_secs_f64() * workers as f64;
        // The first sample has none before it to compare with.
        if busy > Duration::ZERO && elapsed > 0.0 {
            metrics.runtime_busy.set((total.saturating_sub(busy).as_secs_f64() / elapsed).min(1.0));
        }
        let now = cpu_time();
        metrics.cpu_cores.set(now.saturating_sub(cpu).as_secs_f64() / sampled_at.elapsed().as_secs_f64().max(1e-3));
        (busy, sampled_at, cpu) = (total, Instant::now(), now);
        if let Some(store) = &machine.sqlite {
            let pool = store.pool_status();
            metrics.pool_connections.of(ServerRole::Embedded).set(f64::from(pool.connections));
            metrics.pool_idle.of(ServerRole::Embedded).set(f64::from(pool.idle));
            metrics.pool_waiting.of(ServerRole::Embedded).set(f64::from(pool.waiting));
            metrics.pool_timeouts.absolute(pool.timeouts);
        }
    }
}

fn set_shared(now: &SharedStatus, metrics: &Metrics) {
    metrics.shared_servers.set(now.servers as f64);
    metrics.shared_servers_up.set(now.servers_up as f64);
    for (label, count) in [
        (SharedLook::Hit, now.hits),
        (SharedLook::Miss, now.misses),
        (SharedLook::Unusable, now.unusable),
        (SharedLook::Damaged, now.damaged),
        (SharedLook::Late, now.late),
        (SharedLook::Away, now.away),
        (SharedLook::Failed, now.failed),
        (SharedLook::Waited, now.hits_after_wait),
        (SharedLook::WaitedInVain, now.waited_in_vain),
    ] {
        metrics.shared_looks.of(label).absolute(count);
    }
    for (label, count) in [
        (SharedWrite::Written, now.written),
        (SharedWrite::NotNewer, now.not_newer),
        (SharedWrite::TooLarge, now.too_large),
        (SharedWrite::Dropped, now.dropped),
        (SharedWrite::NotTaken, now.not_taken),
    ] {
        metrics.shared_writes.of(label).absolute(count);
    }
    metrics.shared_bytes.of(Direction::Read).absolute(now.read_bytes);
    metrics.shared_bytes.of(Direction::Written).absolute(now.written_bytes);
}

/// Samples the servers of a store on PostgreSQL. Never ends.
pub(super) async fn sample_servers(store: Arc<PostgresStore>, health: Arc<Health>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        ticks.tick().await;
        let nodes = store.status();
        set_servers(&nodes, &metrics);
        metrics.pool_timeouts.absolute(nodes.iter().map(|node| node.timeouts).sum());
        let maintenance = store.maintenance_status();
        metrics.keeper_elected.set(f64::from(u8::from(maintenance.elected)));
        metrics.partitions_missing.set(maintenance.missing as f64);
        metrics.partitions_made.absolute(maintenance.made);
        metrics.partitions_dropped.absolute(maintenance.dropped);
        metrics.retention_removed.absolute(maintenance.removed);
        metrics.keeper_failures.absolute(maintenance.failures);
        health.set_nodes(nodes);
    }
}

/// The processor time that this process has used.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
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
