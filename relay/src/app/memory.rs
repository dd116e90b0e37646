//! The account of what is held for clients, as large as the operator or the machine says.

use crate::config::Config;
use crate::memory::{ClientMemory, automatic_clients_bytes, memory_limit};
use std::sync::Arc;

/// Makes the account, and says in the log how large it is and why.
pub(super) fn account(config: &Config) -> Arc<ClientMemory> {
    let limit = memory_limit();
    let bytes = config.memory.clients_bytes().unwrap_or_else(|| automatic_clients_bytes(limit));
    let mib = |bytes: u64| bytes >> 20;
    let caches = if config.cache.l1 { config.cache.l1_bytes } else { 0 };
    let promised = (bytes + caches + config.queues.ring_bytes) as u64;
    tracing::info!(
        clients_mib = mib(bytes as u64),
        automatic = config.memory.clients_bytes().is_none(),
        usable_mib = limit.map_or(0, |limit| mib(limit.bytes)),
        usable_says = limit.map_or("nobody", |limit| limit.source),
        "memory for clients (memory.clients_bytes)"
    );
    if let Some(limit) = limit.filter(|limit| promised > limit.bytes / 10 * 8) {
        tracing::warn!(
            promised_mib = mib(promised),
            usable_mib = mib(limit.bytes),
            "memory.clients_bytes, queues.ring_bytes and cache.l1_bytes together leave too little of the memory that \
             the process may use: the system may kill it"
        );
    }
    ClientMemory::new(bytes)
}
