//! The writer: takes what is offered, writes it in the form that is shared, and leaves alone what is better already.

use super::codec::{Generation, encode};
use super::servers::NoAnswer;
use super::{Name, Shared};
use crate::cache::{Answer, Vacancy};
use crate::types::safeguard::{Safeguard, ablated};
use redis::{Script, cmd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a server has for taking an entry: nobody waits for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// What is to be done, one after the other.
pub(super) enum Order {
    /// Write an answer.
    Put(Offer),
    /// Let go of a lease: nothing will be written.
    Leave(Name),
}

/// An answer to be written.
pub(super) struct Offer {
    pub(super) name: Name,
    pub(super) answer: Answer,
    /// The last purge that was known when it was offered.
    pub(super) generation: Generation,
    /// What it may replace whatever it is.
    pub(super) vacant: Vacancy,
}

/// Writes until nobody offers anything any more.
pub(super) async fn run(shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    let script = match ablated(Safeguard::Compare) {
        false => Script::new(include_str!("put.lua")),
        true => Script::new("redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1"),
    };
    while let Some(order) = orders.recv().await {
        match order {
            Order::Put(offer) => write(&shared, &script, offer).await,
            Order::Leave(name) => leave(&shared, &name).await,
        }
        // Compressing takes a moment each time.
        tokio::task::yield_now().await;
    }
}

/// The lease may have run out and be another's by now: then one more reads the store, no worse.
async fn leave(shared: &Shared, name: &Name) {
    let unlink =
        |mut connection| async move { cmd("UNLINK").arg(&name.lease).query_async::<()>(&mut connection).await };
    if let Err(NoAnswer::Failed(error)) = shared.servers.ask(name.entry.as_bytes(), Some(PATIENCE), unlink).await {
        tracing::debug!(%error, "a lease of the shared cache was not given back");
    }
}

async fn write(shared: &Shared, script: &Script, Offer { name, answer, generation, vacant }: Offer) {
    let counts = &shared.counts;
    let Some(value) = encode(&answer, generation) else {
        leave(shared, &name).await;
        return counts.too_large.one();
    };
    let bytes = value.len();
    let lifetime = u64::try_from(shared.lifetime.as_millis()).unwrap_or(u64::MAX);
    let mut call = script.key(&name.entry);
    call.key(&name.lease).arg(value).arg(lifetime).arg(vacant.unusable.as_ref().map_or(&[][..], |header| header));
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
