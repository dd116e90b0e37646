//! The shared layer in Redis: one key an entry.
//!
//! Redis may be slow, or gone, or return anything at all. So a read waits a few milliseconds at most, and a circuit
//! breaker opens for a server that keeps being late. A value counts only if it decodes, if the reader's log can bring
//! its epoch and position up to date, and if it was not purged. Whatever happens to Redis changes the hit rate and
//! nothing else.

mod codec;
mod counts;
mod purges;
mod servers;
#[cfg(test)]
mod tests;
mod write;

pub(super) use codec::HEADER_BYTES;
pub use counts::SharedStatus;

use super::{Answer, FilterKey, Miss, Purge, SharedLayer};
use crate::config::RedisAddress;
use crate::task::Tasks;
use crate::telemetry::Task;
use crate::types::safeguard::{Safeguard, ablated};
use codec::MAX_VALUE_BYTES;
use counts::Counts;
use futures_util::future::{BoxFuture, FutureExt};
use purges::Purges;
use redis::{Script, cmd};
use servers::{NoAnswer, Servers};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use write::{PutRequest, WriteCommand};

/// Writes and lease releases that may wait. When the queue is full, an answer is not shared.
const QUEUE: usize = 256;
/// How long one instance may keep the others from reading the store for the same key.
const LEASE: Duration = Duration::from_millis(500);
/// How long the others wait for the leader's answer before they read the store themselves.
const LEASE_WAIT: Duration = Duration::from_millis(150);
/// The pause between two looks for the leader's answer: the first, and the longest.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(16));
/// Purges of other instances that may wait to be applied here.
const PURGES: usize = 64;

/// Settings of the shared layer.
#[derive(Debug, Clone)]
pub struct SharedSettings {
    /// The prefix of every key in Redis.
    pub prefix: String,
    /// The longest that a read waits for a server.
    pub patience: Duration,
    /// The time to live of an entry. About as far as the ring reaches back: an older entry is of no use.
    pub lifetime: Duration,
    /// `false`: the layer keeps nothing, and only passes purges on.
    pub keeps: bool,
    /// Watches the tasks of the layer.
    pub tasks: Tasks,
}

/// A shared layer over Redis. Dropping it closes all connections.
pub struct RedisLayer {
    shared: Arc<LayerState>,
    commands: mpsc::Sender<WriteCommand>,
    tasks: [JoinHandle<()>; 2],
}

struct LayerState {
    servers: Servers,
    prefix: String,
    lifetime: Duration,
    keeps: bool,
    purges: Purges,
    counts: Counts,
    look_script: Script,
}

/// The Redis keys of an entry and of its lease. Both are on the same server: a Cluster hashes what is in braces.
struct RedisKeys {
    entry: String,
    lease: String,
}

/// The outcome of one look into Redis.
enum Lookup {
    Answer(Answer),
    Nothing,
    /// Too old, with too little room, purged, or damaged.
    Unusable(Miss),
}

impl RedisLayer {
    /// Starts to connect; reconnects whenever a server fails. The receiver yields the purges of other instances.
    pub fn start(address: RedisAddress, settings: SharedSettings) -> (Arc<Self>, mpsc::Receiver<Purge>) {
        let SharedSettings { prefix, patience, lifetime, keeps, tasks } = settings;
        let shared = Arc::new(LayerState {
            servers: Servers::new(address, patience, tasks.clone()),
            purges: Purges::new(&prefix, lifetime),
            prefix,
            lifetime,
            keeps,
            counts: Counts::default(),
            look_script: Script::new(include_str!("look.lua")),
        });

        let (commands, received) = mpsc::channel(QUEUE);
        let (purged, to_purge) = mpsc::channel(PURGES);
        let (writer, follower, received) = (shared.clone(), shared.clone(), Arc::new(Mutex::new(received)));
        let tasks = [
            tasks.spawn_restarting(Task::CacheWrite, move || write::run(writer.clone(), received.clone())),
            tasks.spawn_restarting(Task::CachePurges, move || {
                let (follower, purged) = (follower.clone(), purged.clone());
                async move { follower.purges.follow(&follower.servers, &purged).await }
            }),
        ];
        (Arc::new(Self { shared, commands, tasks }), to_purge)
    }
}

impl RedisLayer {
    /// False where the queue is full.
    fn send(&self, key: &FilterKey, command: impl FnOnce(RedisKeys) -> WriteCommand) -> bool {
        !self.shared.keeps || self.commands.try_send(command(self.shared.redis_keys(key))).is_ok()
    }
}

impl Drop for RedisLayer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl SharedLayer for RedisLayer {
    fn get<'a>(
        &'a self,
        key: &'a FilterKey,
        usable: &'a (dyn Fn(&Answer) -> bool + Sync),
    ) -> BoxFuture<'a, Result<Answer, Miss>> {
        async move { if self.shared.keeps { self.shared.get(key, usable).await } else { Err(Miss::default()) } }.boxed()
    }

    fn put(&self, key: &FilterKey, answer: Answer, miss: Miss) {
        let generation = self.shared.purges.latest();
        if !self.send(key, |keys| WriteCommand::Put(PutRequest { keys, answer, generation, miss })) {
            self.shared.counts.dropped.one();
        }
    }

    fn release_lease(&self, key: &FilterKey, miss: Miss) {
        // Without room in the queue the lease expires by itself.
        let _ = miss.leased && self.send(key, WriteCommand::ReleaseLease);
    }

    fn renew_after(&self) -> Option<Duration> {
        self.shared.keeps.then_some(self.shared.lifetime / 2)
    }

    fn purge<'a>(&'a self, purge: &'a Purge) -> BoxFuture<'a, bool> {
        async move {
            let announced = self.shared.purges.announce(&self.shared.servers, purge).await;
            announced
                .inspect_err(|error| tracing::warn!(%error, "other instances could not be told of a purge"))
                .is_ok()
        }
        .boxed()
    }

    fn status(&self) -> Option<SharedStatus> {
        Some(self.shared.counts.status(self.shared.servers.status()))
    }
}

impl LayerState {
    fn redis_keys(&self, key: &FilterKey) -> RedisKeys {
        let mut entry = format!("{}:cache:{{", self.prefix);
        faster_hex::hex_append(&key.digest(), &mut entry);
        entry.push('}');
        RedisKeys { lease: format!("{entry}:lease"), entry }
    }

    async fn get(&self, key: &FilterKey, usable: &(dyn Fn(&Answer) -> bool + Sync)) -> Result<Answer, Miss> {
        let keys = self.redis_keys(key);
        let mut miss = Miss::default();
        let (bytes, leased) = match self.look_or_lease(&keys).await {
            Ok(looked) => looked,
            Err(no_answer) => {
                self.count(&no_answer);
                return Err(miss);
            }
        };
        match self.read(&bytes, key, usable) {
            Lookup::Answer(answer) => {
                self.counts.hits.one();
                return Ok(answer);
            }
            Lookup::Nothing => {
                self.counts.misses.one();
                miss.leased = leased;
            }
            Lookup::Unusable(unusable) => {
                self.counts.unusable.one();
                miss = unusable;
                miss.leased = self.is_first(&keys).await;
            }
        }
        if miss.leased { Err(miss) } else { self.wait(&keys, key, usable).await.ok_or(miss) }
    }

    /// Looks into Redis, and takes the lease where there is nothing. Ablated, every instance is the first.
    async fn look_or_lease(&self, keys: &RedisKeys) -> Result<(Vec<u8>, bool), NoAnswer> {
        if ablated(Safeguard::Lease) {
            return Ok((self.look(keys).await?, true));
        }
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let mut call = self.look_script.key(&keys.entry);
        call.key(&keys.lease).arg(MAX_VALUE_BYTES - 1).arg(lease);
        let call = |mut connection| async move { call.invoke_async::<(Vec<u8>, bool)>(&mut connection).await };
        self.servers.ask(keys.entry.as_bytes(), None, call).await
    }

    /// The value in Redis, empty where there is none.
    async fn look(&self, keys: &RedisKeys) -> Result<Vec<u8>, NoAnswer> {
        let mut get = cmd("GETRANGE");
        get.arg(&keys.entry).arg(0).arg(MAX_VALUE_BYTES - 1);
        let get = |mut connection| async move { get.query_async::<Vec<u8>>(&mut connection).await };
        self.servers.ask(keys.entry.as_bytes(), None, get).await
    }

    /// What a value from Redis is worth.
    fn read(&self, bytes: &[u8], key: &FilterKey, usable: &(dyn Fn(&Answer) -> bool + Sync)) -> Lookup {
        if bytes.is_empty() {
            return Lookup::Nothing;
        }
        self.counts.read_bytes.add(bytes.len());
        match codec::decode(bytes) {
            Ok((answer, generation)) if !self.purges.concern(key, generation) && usable(&answer) => {
                Lookup::Answer(answer)
            }
            read => {
                if read.is_err() {
                    self.counts.damaged.one();
                }
                Lookup::Unusable(Miss { unusable: bytes.first_chunk().copied(), leased: false })
            }
        }
    }

    /// Takes the lease: true when no other instance is reading the store for this key.
    async fn is_first(&self, keys: &RedisKeys) -> bool {
        if ablated(Safeguard::Lease) {
            return true;
        }
        let mut set = cmd("SET");
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        set.arg(&keys.lease).arg(1).arg("NX").arg("PX").arg(lease);
        let set = |mut connection| async move { set.query_async::<Option<String>>(&mut connection).await };
        match self.servers.ask(keys.entry.as_bytes(), None, set).await {
            Ok(set) => set.is_some(),
            Err(no_answer) => {
                self.count(&no_answer);
                true
            }
        }
    }

    /// Waits, for at most [`LEASE_WAIT`], for the answer of the instance that has the lease.
    async fn wait(
        &self,
        keys: &RedisKeys,
        key: &FilterKey,
        usable: &(dyn Fn(&Answer) -> bool + Sync),
    ) -> Option<Answer> {
        let until = Instant::now() + LEASE_WAIT;
        let (mut pause, longest) = LOOK_AGAIN;
        while Instant::now() < until {
            sleep(pause).await;
            pause = (pause * 2).min(longest);
            let looked = self.look(keys).await.inspect_err(|no_answer| self.count(no_answer));
            let Ok(bytes) = looked else { return None };
            if let Lookup::Answer(answer) = self.read(&bytes, key, usable) {
                self.counts.hits_after_wait.one();
                return Some(answer);
            }
        }
        self.counts.waited_in_vain.one();
        None
    }

    fn count(&self, no_answer: &NoAnswer) {
        match no_answer {
            NoAnswer::Away => self.counts.away.one(),
            NoAnswer::Late => self.counts.late.one(),
            NoAnswer::Failed(error) => {
                tracing::debug!(%error, "the shared cache has failed");
                self.counts.failed.one();
            }
        }
    }
}
