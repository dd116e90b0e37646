//! The writer of the shared layer: encodes the answers in its queue and writes each one, unless Redis has a better one.

use super::codec::{Generation, encode};
use super::servers::NoAnswer;
use super::{LayerState, RedisKeys};
use crate::cache::{Answer, Miss};
use crate::types::safeguard::{Safeguard, ablated};
use redis::{Script, cmd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// The longest that a write waits for the server. No query waits for a write.
const REDIS_WRITE_TIMEOUT: Duration = Duration::from_millis(250);

/// The writer's work, in order.
pub(super) enum WriteCommand {
    /// Write an answer.
    Put(PutRequest),
    /// Release a lease: no answer will follow.
    ReleaseLease(RedisKeys),
}

/// An answer to write.
pub(super) struct PutRequest {
    pub(super) keys: RedisKeys,
    pub(super) answer: Answer,
    /// The last purge that this instance knew of when the answer was offered.
    pub(super) generation: Generation,
    /// What the answer may replace in any case.
    pub(super) miss: Miss,
}

/// Writes until the sender is gone. The queue outlives a panic.
pub(super) async fn run(shared: Arc<LayerState>, commands: Arc<Mutex<mpsc::Receiver<WriteCommand>>>) {
    let mut commands = commands.lock().await;
    let script = match ablated(Safeguard::Compare) {
        false => Script::new(include_str!("put.lua")),
        true => Script::new("redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1"),
    };
    while let Some(command) = commands.recv().await {
        match command {
            WriteCommand::Put(request) => write(&shared, &script, request).await,
            WriteCommand::ReleaseLease(keys) => release_lease(&shared, &keys).await,
        }
        // Compressing takes a while: other tasks of this thread run in between.
        tokio::task::yield_now().await;
    }
}

/// The lease may have expired and be another instance's by now. Then one more instance reads the store, which does no
/// harm.
async fn release_lease(shared: &LayerState, keys: &RedisKeys) {
    let unlink =
        |mut connection| async move { cmd("UNLINK").arg(&keys.lease).query_async::<()>(&mut connection).await };
    if let Err(NoAnswer::Failed(error)) =
        shared.servers.ask(keys.entry.as_bytes(), Some(REDIS_WRITE_TIMEOUT), unlink).await
    {
        tracing::debug!(%error, "a lease of the shared cache was not given back");
    }
}

async fn write(shared: &LayerState, script: &Script, PutRequest { keys, answer, generation, miss }: PutRequest) {
    let counts = &shared.counts;
    let Some(value) = encode(&answer, generation) else {
        release_lease(shared, &keys).await;
        return counts.too_large.one();
    };

    let bytes = value.len();
    let lifetime = u64::try_from(shared.lifetime.as_millis()).unwrap_or(u64::MAX);
    let mut call = script.key(&keys.entry);
    call.key(&keys.lease).arg(value).arg(lifetime).arg(miss.unusable.as_ref().map_or(&[][..], |header| header));
    let call = |mut connection| async move { call.invoke_async::<bool>(&mut connection).await };

    match shared.servers.ask(keys.entry.as_bytes(), Some(REDIS_WRITE_TIMEOUT), call).await {
        Ok(true) => counts.written.one(),
        Ok(false) => counts.not_newer.one(),
        Err(error) => {
            counts.not_taken.one();
            if let NoAnswer::Failed(error) = error {
                tracing::debug!(%error, "the shared cache took no entry");
            }
            return;
        }
    }
    counts.written_bytes.add(bytes);
}
