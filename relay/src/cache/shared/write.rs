//! The writer: takes what is offered, writes it in the form that is shared, and leaves alone what is better already.

use super::codec::{Generation, encode};
use super::servers::NoAnswer;
use super::{Name, Shared};
use crate::cache::Answer;
use crate::types::mechanism::{Mechanism, is_off};
use redis::Script;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a server has for taking an entry: nobody waits for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// An answer to be written.
pub(super) struct Offer {
    pub(super) name: Name,
    pub(super) answer: Answer,
    /// The last purge that was known when it was offered.
    pub(super) generation: Generation,
}

/// Writes until nobody offers anything any more.
pub(super) async fn run(shared: Arc<Shared>, mut offers: mpsc::Receiver<Offer>) {
    let script = match is_off(Mechanism::Compare) {
        false => Script::new(include_str!("put.lua")),
        true => Script::new("redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1"),
    };
    while let Some(offer) = offers.recv().await {
        write(&shared, &script, offer).await;
        // Compressing takes a moment each time.
        tokio::task::yield_now().await;
    }
}

async fn write(shared: &Shared, script: &Script, Offer { name, answer, generation }: Offer) {
    let counts = &shared.counts;
    let Some(value) = encode(&answer, generation) else { return counts.too_large.one() };
    let bytes = value.len();
    let lifetime = u64::try_from(shared.lifetime.as_millis()).unwrap_or(u64::MAX);
    let mut call = script.key(&name.entry);
    call.key(&name.lease).arg(value).arg(lifetime);
    let call = |mut connection| async move { call.invoke_async::<bool>(&mut connection).await };
    match shared.servers.ask(name.entry.as_bytes(), Some(PATIENCE), call).await {
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
