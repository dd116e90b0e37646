//! Builds the layers of the cache that the settings turn on.

use crate::cache::shared::{RedisLayer, SharedSettings};
use crate::cache::{Cache, NoLayer, Purge, SharedLayer};
use crate::config::{Config, RedisAddress, RedisAddressError};
use crate::task::Tasks;
use crate::telemetry::{Metrics, Task};
use std::sync::{Arc, Weak};
use tokio::sync::{Mutex, mpsc};

/// Builds the cache; `None` where both layers are off. A purge on another instance purges it too.
pub(super) fn layers(
    config: &Config,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<Option<Arc<Cache>>, RedisAddressError> {
    let l1_bytes = if config.cache.l1 { config.cache.l1_bytes } else { 0 };
    if l1_bytes == 0 && !shares_answers(config) {
        return Ok(None);
    }
    if config.redis.url.is_empty() {
        return Ok(Some(Cache::new(l1_bytes, Arc::new(NoLayer), metrics.clone())));
    }
    let settings = SharedSettings {
        prefix: config.redis.prefix.clone(),
        patience: config.cache.l2_patience,
        lifetime: config.cache.l2_lifetime,
        // Where it is off, the layer still passes purges between instances.
        keeps: config.cache.l2,
        tasks: tasks.clone(),
    };
    let (layer, purges) = RedisLayer::start(RedisAddress::parse(config.redis.url.expose())?, settings);
    let cache = Cache::new(l1_bytes, layer as Arc<dyn SharedLayer>, metrics.clone());
    // The task ends with the layer, which ends with the cache.
    let (weak, purges) = (Arc::downgrade(&cache), Arc::new(Mutex::new(purges)));
    tasks.spawn_restarting(Task::CachePurge, move || purge(weak.clone(), purges.clone()));
    Ok(Some(cache))
}

/// Whether instances share answers. If they do, a ring must reach back as far as the oldest answer.
pub(super) fn shares_answers(config: &Config) -> bool {
    config.cache.l2 && !config.redis.url.is_empty()
}

/// Logs which layers are on.
pub(super) fn log_startup(config: &Config) {
    match (config.cache.l1, shares_answers(config)) {
        (true, true) => tracing::info!(
            bytes = config.cache.l1_bytes,
            "hot answers are kept in memory, and shared with other instances in Redis"
        ),
        (true, false) => tracing::info!(bytes = config.cache.l1_bytes, "hot answers are kept in memory"),
        (false, true) => tracing::info!("hot answers are shared with other instances in Redis (cache.l1 is off)"),
        (false, false) => tracing::info!("no answers are kept (cache.l1 is off)"),
    }
}

async fn purge(cache: Weak<Cache>, purges: Arc<Mutex<mpsc::Receiver<Purge>>>) {
    let mut purges = purges.lock().await;
    while let Some(purge) = purges.recv().await {
        let Some(cache) = cache.upgrade() else { return };
        let entries = cache.purge(&purge);
        tracing::info!(%purge, entries, "another instance has purged the cache");
    }
}
