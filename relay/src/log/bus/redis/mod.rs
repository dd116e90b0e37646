//! The bus over Redis: one channel, on a single server, on the one that Sentinels name, or on a Cluster's shard.
//!
//! Two connections and two loops of our own, for the client library's ways of connecting again give up or go deaf: one
//! listens, one speaks. Each begins anew for ever, after at most a second. That a connection is open proves nothing, so
//! the speaker sends a sign of life that the listener must hear: this notices a server that has stopped, a link that
//! has died in silence, and a speaker and a listener that a failover has left on two servers.

mod listen;
mod speak;

use super::{Bus, BusHandle, Message, Sender};
use crate::config::RedisAddress;
use crate::link::LinkError;
use crate::telemetry::{BusTraffic, Metrics};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

/// Messages that may wait to be sent. A second of a busy relay; what is more is dropped, and read from the log.
const OUT_QUEUE: usize = 1_024;
/// Messages that may wait for the follower.
const IN_QUEUE: usize = 256;
/// Between two signs of life.
const BEAT: Duration = Duration::from_millis(500);
/// A listener that has heard no sign of its own life for so long is deaf.
const DEAF_AFTER: Duration = Duration::from_millis(2_000);
/// A peer that has given no sign of life for so long is gone.
const PEER_GONE_AFTER: Duration = Duration::from_secs(3);

/// Why a loop begins anew.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the connection was lost")]
    Lost,
    #[error("messages have stopped coming round")]
    Deaf,
}

/// A bus over Redis. Dropping it ends both loops.
pub struct RedisBus {
    shared: Arc<BusState>,
    queue: mpsc::Sender<Message>,
    tasks: [JoinHandle<()>; 2],
}

/// What both loops know.
struct BusState {
    address: RedisAddress,
    channel: String,
    own: Sender,
    metrics: Arc<Metrics>,
    up: watch::Sender<bool>,
    started: Instant,
    /// Milliseconds from `started` to the last message of another instance; 0: none yet.
    peer_heard: AtomicU64,
    /// The listener wants a sign of life now.
    beat: Notify,
    /// The server may be somewhere else by now: the speaker is to look for it again.
    moved: Notify,
}

impl RedisBus {
    /// Starts to listen and to speak on the channel of `prefix`, and goes on whatever happens to the server.
    pub fn attach(address: RedisAddress, prefix: &str, metrics: Arc<Metrics>) -> BusHandle {
        let shared = Arc::new(BusState {
            address,
            channel: format!("{prefix}:log"),
            own: Sender(rand::random()),
            metrics,
            up: watch::Sender::new(false),
            started: Instant::now(),
            peer_heard: AtomicU64::new(0),
            beat: Notify::new(),
            moved: Notify::new(),
        });
        let (queue, to_send) = mpsc::channel(OUT_QUEUE);
        let (received, incoming) = mpsc::channel(IN_QUEUE);
        let tasks =
            [tokio::spawn(listen::run(shared.clone(), received)), tokio::spawn(speak::run(shared.clone(), to_send))];
        BusHandle { publisher: Arc::new(Self { shared, queue, tasks }), receiver: incoming }
    }
}

impl Bus for RedisBus {
    fn publish(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
            self.shared.count(BusTraffic::Dropped, 1);
        }
    }

    fn up(&self) -> watch::Receiver<bool> {
        self.shared.up.subscribe()
    }

    fn has_peers(&self) -> bool {
        let heard = self.shared.peer_heard.load(Ordering::Relaxed);
        heard != 0 && self.shared.started.elapsed() < Duration::from_millis(heard) + PEER_GONE_AFTER
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl BusState {
    fn count(&self, outcome: BusTraffic, messages: u64) {
        self.metrics.bus_messages.of(outcome).increment(messages);
    }

    fn set_up(&self, up: bool) -> bool {
        self.metrics.bus_up.set(if up { 1.0 } else { 0.0 });
        let changed = self.up.send_if_modified(|was| std::mem::replace(was, up) != up);
        if changed && !up {
            self.metrics.bus_losses.increment(1);
        }
        changed
    }

    fn note_peer(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.peer_heard.store(millis, Ordering::Relaxed);
    }
}
