//! The bus over Redis: one channel, on a single server, on the master that Sentinels name, or on a shard of a Cluster.
//!
//! Two connections, with a loop each: one listens, one speaks. The loops are our own, since the client library's ways
//! of reconnecting give up or go silent; ours retry for ever, at least once a second. An open connection proves
//! nothing. So the speaker sends heartbeats, and the listener must hear them come back: that detects a server that has
//! stopped, a link that has died in silence, and a speaker and a listener that a failover has left on two servers.

mod listen;
mod speak;

use super::{Bus, BusHandle, Message, Sender};
use crate::config::RedisAddress;
use crate::link::LinkError;
use crate::task::Tasks;
use crate::telemetry::{BusTraffic, Metrics, Task};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinHandle;

/// Messages that may wait to be sent: a second of a busy relay. Further ones are dropped, and read from the shared log.
const OUT_QUEUE: usize = 1_024;
/// Messages that may wait for the follower.
const IN_QUEUE: usize = 256;
/// Between two heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// A listener that has not heard its own heartbeat for this long reconnects.
const SILENT_AFTER: Duration = Duration::from_millis(2_000);
/// A peer that was not heard for this long counts as gone.
const PEER_GONE_AFTER: Duration = Duration::from_secs(3);

/// Why a loop reconnects.
#[derive(Debug, thiserror::Error)]
enum BusFailure {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the connection was lost")]
    Lost,
    #[error("messages have stopped coming round")]
    Silent,
}

/// A bus over Redis. Dropping it ends both loops.
pub struct RedisBus {
    shared: Arc<BusState>,
    queue: mpsc::Sender<Message>,
    tasks: [JoinHandle<()>; 2],
}

/// What both loops share.
struct BusState {
    address: RedisAddress,
    channel: String,
    own: Sender,
    metrics: Arc<Metrics>,
    up: watch::Sender<bool>,
    started: Instant,
    /// Milliseconds from `started` to the last message of another instance; 0: none yet.
    peer_heard: AtomicU64,
    /// The listener asks for a heartbeat now.
    beat: Notify,
    /// The server may have moved: the speaker looks for it again.
    moved: Notify,
}

impl RedisBus {
    /// Starts to subscribe and to publish on the channel of `prefix`; reconnects whenever the server fails.
    pub fn attach(address: RedisAddress, prefix: &str, metrics: Arc<Metrics>, tasks: &Tasks) -> BusHandle {
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
        let (listening, speaking, to_send) = (shared.clone(), shared.clone(), Arc::new(Mutex::new(to_send)));
        let tasks = [
            tasks.spawn_restarting(Task::BusListen, move || listen::run(listening.clone(), received.clone())),
            tasks.spawn_restarting(Task::BusSpeak, move || speak::run(speaking.clone(), to_send.clone())),
        ];
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
