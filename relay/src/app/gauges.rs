//! What is read now and then rather than counted as it happens.

use crate::ingest::Ingest;
use crate::log::Log;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::time::Duration;

/// How often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Never ends; run it as a task.
pub(super) async fn sample(log: Arc<Log>, ingest: Ingest, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
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
