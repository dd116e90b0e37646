//! The Redis servers of the shared layer: which one carries which key, a connection to each, and a circuit breaker in
//! front of each.

use crate::config::RedisAddress;
use crate::link::{Backoff, Layout, LinkError, RedisNode, open};
use crate::task::Tasks;
use crate::telemetry::Task;
use crate::types::safeguard::{Safeguard, ablated};
use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, cmd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The breaker opens after a server has been late for this many times the read timeout, and closes when it answers a
/// PING in time.
const OPEN_AFTER_TIMEOUTS: u32 = 10;
/// A connection that lasted this long was a good one: the backoff begins anew.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// The timeout in a control that ablates it.
const NO_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// No server carries the key, or its breaker is open. The caller did not wait.
    #[error("no server is there")]
    Away,
    /// The server did not answer in time.
    #[error("no answer in time")]
    Late,
    /// The server, or the way to it, reports an error.
    #[error(transparent)]
    Failed(#[from] RedisError),
}

/// All servers of one address. Dropping it closes all connections.
pub(super) struct Servers {
    patience: Duration,
    map: Arc<ArcSwap<Map>>,
    task: JoinHandle<()>,
}

/// What the tasks behind the connections share.
struct LinkContext {
    address: RedisAddress,
    /// The longest that a read waits for a server.
    patience: Duration,
    /// Asks for a new layout: a server was not where the last one says.
    moved: Notify,
    tasks: Tasks,
}

#[derive(Default)]
struct Map {
    layout: Option<Layout>,
    links: Vec<Arc<Link>>,
}

/// One server: its connection and the task that keeps it.
struct Link {
    node: RedisNode,
    live: Arc<ArcSwapOption<Live>>,
    task: JoinHandle<()>,
}

/// An open connection.
struct Live {
    connection: MultiplexedConnection,
    since: Instant,
    /// When the present run of late answers began, in milliseconds from `since`; 0: the last answer was in time.
    late: AtomicU64,
    /// The breaker is open: no request uses the connection any more.
    gone: AtomicBool,
    lost: Notify,
}

impl Servers {
    /// Starts to look for the servers; at first there is none. A read waits for at most `patience`.
    pub(super) fn new(address: RedisAddress, patience: Duration, tasks: Tasks) -> Self {
        let context = Arc::new(LinkContext { address, patience, moved: Notify::new(), tasks: tasks.clone() });
        let map = Arc::<ArcSwap<Map>>::default();
        let kept = map.clone();
        let task = tasks.spawn_restarting(Task::CacheServers, move || run_layout(context.clone(), kept.clone()));
        Self { patience, task, map }
    }

    /// Sends a request to the server that carries `key`. Waits for its answer for at most `longer`, or else the read
    /// timeout. As cancel safe as `send` is.
    pub(super) async fn ask<T, F>(
        &self,
        key: &[u8],
        longer: Option<Duration>,
        send: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, NoAnswer>
    where
        T: FromRedisValue,
        F: Future<Output = RedisResult<T>>,
    {
        let live = self.live(key).ok_or(NoAnswer::Away)?;
        let patience = if ablated(Safeguard::LayerTimeout) { NO_TIMEOUT } else { longer.unwrap_or(self.patience) };
        match timeout(patience, send(live.connection.clone())).await {
            Ok(Ok(answer)) => {
                live.record_answer();
                Ok(answer)
            }
            Ok(Err(error)) => {
                if !is_about_the_value(&error) {
                    live.open_breaker();
                }
                Err(error.into())
            }
            Err(_) => {
                live.record_timeout(self.patience);
                Err(NoAnswer::Late)
            }
        }
    }

    fn live(&self, key: &[u8]) -> Option<Arc<Live>> {
        let map = self.map.load();
        let node = map.layout.as_ref()?.node_of(key)?;
        map.links.iter().find(|link| link.node == *node)?.live()
    }

    /// The number of servers, and of those that answer.
    pub(super) fn status(&self) -> (usize, usize) {
        let map = self.map.load();
        (map.links.len(), map.links.iter().filter(|link| link.live().is_some()).count())
    }
}

impl Live {
    fn record_answer(&self) {
        self.late.store(0, Ordering::Relaxed);
    }

    /// A single late answer is normal, and delays those behind it on the connection; a run of late answers opens the
    /// breaker.
    fn record_timeout(&self, patience: Duration) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let first = self.late.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).err();
        let silent = Duration::from_millis(now.saturating_sub(first.unwrap_or(now)));
        if silent >= patience * OPEN_AFTER_TIMEOUTS {
            self.open_breaker();
        }
    }

    fn open_breaker(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.lost.notify_one();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the error is about this value alone, which has another type, say, or is too large, and the server is well.
fn is_about_the_value(error: &RedisError) -> bool {
    let of_the_server = ErrorKind::Server(ServerErrorKind::ResponseError);
    let harmless = [of_the_server, ErrorKind::Extension, ErrorKind::UnexpectedReturnType, ErrorKind::Parse];
    harmless.contains(&error.kind())
}

/// Keeps the layout: finds it, and finds it again when a server was not where it says.
async fn run_layout(context: Arc<LinkContext>, map: Arc<ArcSwap<Map>>) {
    let mut backoff = Backoff::new();
    let mut logged = false;
    loop {
        match Layout::find(&context.address).await {
            Ok(layout) => {
                adopt(&context, &map, layout);
                (backoff, logged) = (Backoff::new(), false);
                context.moved.notified().await;
            }
            Err(error) if !std::mem::replace(&mut logged, true) => {
                tracing::warn!(%error, address = ?context.address, "the shared cache cannot be found");
            }
            Err(_) => {}
        }
        // Several links that lose their servers together ask for one new layout.
        sleep(backoff.next_wait()).await;
    }
}

fn adopt(context: &Arc<LinkContext>, map: &ArcSwap<Map>, layout: Layout) {
    let before = map.load();
    if before.layout.as_ref() == Some(&layout) {
        return;
    }
    let mut links: Vec<Arc<Link>> = Vec::new();
    for node in layout.nodes() {
        if !links.iter().any(|link| link.node == *node) {
            let kept = before.links.iter().find(|link| link.node == *node).cloned();
            links.push(kept.unwrap_or_else(|| Link::to(node.clone(), context)));
        }
    }
    map.store(Arc::new(Map { layout: Some(layout), links }));
}

impl Link {
    fn to(node: RedisNode, context: &Arc<LinkContext>) -> Arc<Self> {
        let live = Arc::new(ArcSwapOption::empty());
        let (server, kept, shared) = (node.clone(), live.clone(), context.clone());
        let run = move || run_link(server.clone(), kept.clone(), shared.clone());
        let task = context.tasks.spawn_restarting(Task::CacheLink, run);
        Arc::new(Self { node, live, task })
    }

    fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full().filter(|live| !live.gone.load(Ordering::Relaxed))
    }
}

/// Keeps one connection: opens it, and opens it again whenever it is lost or the breaker opens. Logs the first loss and
/// the recovery, not each attempt while a server comes and goes.
async fn run_link(node: RedisNode, live: Arc<ArcSwapOption<Live>>, context: Arc<LinkContext>) {
    let mut backoff = Backoff::new();
    let (mut logged_up, mut logged_down) = (false, false);
    loop {
        let why = match connect(&node, &context).await {
            Ok(connection) => {
                let since = Instant::now();
                let current = Arc::new(Live {
                    connection,
                    since,
                    late: AtomicU64::new(0),
                    gone: AtomicBool::new(false),
                    lost: Notify::new(),
                });

                live.store(Some(current.clone()));
                if !std::mem::replace(&mut logged_up, true) {
                    tracing::info!(?node, "the shared cache is up");
                }
                current.lost.notified().await;
                live.store(None);

                if since.elapsed() > STABLE_AFTER {
                    (backoff, logged_down) = (Backoff::new(), false);
                }
                "it was lost or late".to_owned()
            }
            Err(error) => error.to_string(),
        };
        if !std::mem::replace(&mut logged_down, true) {
            tracing::warn!(why, ?node, "the shared cache is down: this instance goes without it until it is back");
            logged_up = false;
        }
        context.moved.notify_one();
        sleep(backoff.next_wait()).await;
    }
}

/// Opens a connection to a server that answers a PING in time: a stopped process still accepts connections.
async fn connect(node: &RedisNode, context: &LinkContext) -> Result<MultiplexedConnection, NoAnswer> {
    let mut connection = open(&context.address, node, None).await.map_err(|error| match error {
        LinkError::Redis(error) => NoAnswer::Failed(error),
        _ => NoAnswer::Away,
    })?;
    let ping = cmd("PING");
    timeout(context.patience, ping.query_async::<()>(&mut connection)).await.map_err(|_| NoAnswer::Late)??;
    Ok(connection)
}
