//! The speaker: takes the queued messages, joins them, and sends them in one pipeline.

use super::{BusFailure, BusState, HEARTBEAT_INTERVAL};
use crate::config::RedisTopology;
use crate::link::{self, Backoff};
use crate::log::bus::{Message, encode};
use crate::telemetry::BusTraffic;
use crate::types::LogEntry;
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// A message with this many changes is not joined with another.
const JOINED_CHANGES: usize = 256;
/// The most messages that are joined and sent at once.
const BATCH: usize = 64;

/// Speaks until the bus is dropped. The queue outlives a panic.
pub(super) async fn run(shared: Arc<BusState>, queue: Arc<Mutex<mpsc::Receiver<Message>>>) {
    let mut queue = queue.lock().await;
    let mut connection = None;
    let mut backoff = Backoff::new();
    let mut beat = interval(HEARTBEAT_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            count = queue.recv_many(&mut batch, BATCH) => if count == 0 {
                return;
            },
            _ = beat.tick() => batch.push(Message::Heartbeat),
            () = shared.beat.notified() => batch.push(Message::Heartbeat),
            () = shared.moved.notified() => {
                connection = None;
                continue;
            }
        }

        let messages = join(std::mem::take(&mut batch));
        let count = messages.len() as u64;
        match send(&shared, &mut connection, messages).await {
            Ok(()) => {
                shared.count(BusTraffic::Sent, count);
                backoff = Backoff::new();
            }
            Err(error) => {
                tracing::debug!(%error, "the bus took nothing");
                connection = None;
                shared.count(BusTraffic::Dropped, count);
                sleep(backoff.next_wait()).await;
                // After the backoff, queued messages are no longer fast: the other instances have read them from the
                // shared log.
                while queue.try_recv().is_ok() {
                    shared.count(BusTraffic::Dropped, 1);
                }
            }
        }
    }
}

async fn send(
    shared: &BusState,
    connection: &mut Option<MultiplexedConnection>,
    messages: Vec<Message>,
) -> Result<(), BusFailure> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(link::connect(&shared.address, &shared.channel, None).await?),
    };
    let publish = if shared.address.topology == RedisTopology::Cluster { "SPUBLISH" } else { "PUBLISH" };

    let mut pipeline = redis::pipe();
    for message in &messages {
        let bytes = encode(shared.own, message);
        shared.metrics.bus_bytes.increment(bytes.len() as u64);
        pipeline.cmd(publish).arg(&shared.channel).arg(bytes).ignore();
    }
    pipeline.query_async::<()>(connection).await?;
    Ok(())
}

/// Joins the entries of one epoch into one message, and ephemeral events into another, as long as the message stays
/// small for Redis's output buffer of a subscriber.
fn join(batch: Vec<Message>) -> Vec<Message> {
    let mut joined: Vec<Message> = Vec::with_capacity(2);
    for message in batch {
        match (joined.last_mut(), message) {
            (Some(Message::Entries(epoch, entries)), Message::Entries(other, more))
                if *epoch == other && changes(entries) < JOINED_CHANGES =>
            {
                entries.extend(more);
            }
            (Some(Message::Ephemeral(events)), Message::Ephemeral(more)) if events.len() < JOINED_CHANGES => {
                events.extend(more);
            }
            (Some(Message::Heartbeat), Message::Heartbeat) => {}
            (_, message) => joined.push(message),
        }
    }
    joined
}

fn changes(entries: &[LogEntry]) -> usize {
    entries.iter().map(|entry| entry.changes.len() + entry.ephemeral.len()).sum()
}
