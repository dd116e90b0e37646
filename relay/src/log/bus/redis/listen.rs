//! The listener: keeps one connection subscribed.

use super::{BusFailure, BusState, HEARTBEAT_INTERVAL, IN_QUEUE, SILENT_AFTER};
use crate::config::RedisTopology;
use crate::link::{self, ANSWER_TIMEOUT, Backoff};
use crate::log::bus::{Message, decode, sender};
use crate::telemetry::BusTraffic;
use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use redis::{PushInfo, PushKind, Value, cmd};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Listens until the receiver is gone.
pub(super) async fn run(shared: Arc<BusState>, out: mpsc::Sender<Message>) {
    let mut backoff = Backoff::new();
    let mut logged = false;
    while !out.is_closed() {
        let Err(why) = listen(&shared, &out).await else { return };
        if shared.set_up(false) {
            backoff = Backoff::new();
            logged = false;
        }
        if !std::mem::replace(&mut logged, true) {
            tracing::warn!(%why, address = ?shared.address, "the bus is down: the log is polled until it is back");
        }
        shared.moved.notify_one();
        sleep(backoff.next_wait()).await;
    }
}

/// Listens on one connection. `Ok`: the receiver is gone.
async fn listen(shared: &BusState, out: &mpsc::Sender<Message>) -> Result<(), BusFailure> {
    let (pushed, mut pushes) = mpsc::channel(IN_QUEUE);
    let mut connection = link::connect(&shared.address, &shared.channel, Some(pushed)).await?;
    let sharded = shared.address.topology == RedisTopology::Cluster;
    let subscribe = if sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
    // A Cluster sends an ordinary PUBLISH to every node; a sharded channel stays on the nodes of its slot.
    cmd(subscribe).arg(&shared.channel).query_async::<()>(&mut connection).await?;
    shared.beat.notify_one();

    let mut heard = Instant::now();
    let mut watch = interval(HEARTBEAT_INTERVAL);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ping: Option<BoxFuture<'static, redis::RedisResult<()>>> = None;
    loop {
        tokio::select! {
            push = pushes.recv() => match push {
                None | Some(PushInfo { kind: PushKind::Disconnection | PushKind::SUnsubscribe, .. }) => {
                    return Err(BusFailure::Lost);
                }
                Some(PushInfo { kind: PushKind::Message | PushKind::SMessage, data }) => {
                    let Some(Value::BulkString(bytes)) = data.last() else { continue };
                    if receive(shared, out, bytes) == MessageOrigin::Own {
                        heard = Instant::now();
                        if shared.set_up(true) {
                            tracing::info!(address = ?shared.address, "the bus is up");
                        }
                    }
                    if out.is_closed() {
                        return Ok(());
                    }
                }
                Some(_) => {}
            },
            _ = watch.tick() => {
                if heard.elapsed() > SILENT_AFTER {
                    return Err(BusFailure::Silent);
                }
                if ping.is_none() {
                    let mut connection = connection.clone();
                    ping = Some(async move { cmd("PING").query_async::<()>(&mut connection).await }.boxed());
                }
            }
            Some(answered) = OptionFuture::from(ping.as_mut()) => {
                ping = None;
                answered?;
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum MessageOrigin {
    Own,
    Other,
}

fn receive(shared: &BusState, out: &mpsc::Sender<Message>, bytes: &[u8]) -> MessageOrigin {
    match sender(bytes) {
        Ok(own) if own == shared.own => {
            shared.count(BusTraffic::Own, 1);
            return MessageOrigin::Own;
        }
        Ok(_) => shared.note_peer(),
        Err(_) => {}
    }

    let outcome = match decode(bytes) {
        Ok(Message::Heartbeat) => BusTraffic::Received,
        Ok(message) => match out.try_send(message) {
            Ok(()) => BusTraffic::Received,
            Err(_) => BusTraffic::Dropped,
        },
        Err(_) => BusTraffic::Damaged,
    };
    shared.count(outcome, 1);
    MessageOrigin::Other
}

const _: () = assert!(ANSWER_TIMEOUT.as_millis() < SILENT_AFTER.as_millis());
