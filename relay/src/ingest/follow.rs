//! The follower: the one task that brings entries to the log, in order. Alone, from the own writer; as one of several
//! instances, from the bus and from the shared log too.

use super::bite::{self, Bite};
use super::resubmit;
use crate::log::bus::{BusHandle, Message};
use crate::log::{FollowTimings, Hole, Log, Sequencer, Step};
use crate::store::{LogSlice, SharedHead, SharedLog, Store, StoreError};
use crate::telemetry::{EntrySource, Metrics};
use crate::types::{Epoch, Event, Head, LogEntry, Position};
use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;

/// How many entries may wait to be applied. Small: the writer waits rather than running far ahead of the readers.
pub(super) const QUEUE: usize = 16;

/// While the bus works, the log is asked only for what the bus has lost.
const WITH_BUS: FollowTimings = FollowTimings {
    hole: Duration::from_millis(5),
    poll: Duration::from_millis(200),
    retry: Duration::from_millis(50),
};
/// Without it, the log is all there is.
const WITHOUT_BUS: FollowTimings =
    FollowTimings { hole: Duration::ZERO, poll: Duration::from_millis(25), retry: Duration::from_millis(50) };

/// What reaches the follower from its own writer.
pub(crate) enum News {
    /// An entry of the log, and its epoch.
    Entry(Epoch, LogEntry),
    /// An ephemeral event, to whoever is live now.
    Ephemeral(Arc<Event>),
}

/// How far before the head a new instance begins: one of these, as far as it costs no more than [`LOADED_CHANGES`]. Far
/// enough, as a rule, that lagging replicas are within its ring.
const LOADED_AT_START: [u64; 3] = [8, 64, 512];
/// The same with a shared cache, whose entries are some minutes old: older ones than its ring reaches back to are of no
/// use to it.
const LOADED_FOR_CACHE: [u64; 2] = [4_096, 32_768];
/// About as many changes as a new instance reads at the most: a second or two, where the last entries are those of a large
/// import.
const LOADED_CHANGES: u64 = 131_072;

/// Where a new instance begins to follow a shared log, and the head that it must reach before it can answer queries: the
/// recent tail lies between, as far as the log still has it, and farther for one with a `shared_cache`. How large its
/// entries are is judged by some of them.
pub async fn beginning(shared: &dyn SharedLog, shared_cache: bool) -> Result<(Head, Head), StoreError> {
    let head = shared.shared_head().await?.head;
    let (mut begin, mut loaded, mut size) = (head.position, 0, 0);
    for back in LOADED_AT_START.into_iter().chain(LOADED_FOR_CACHE.into_iter().filter(|_| shared_cache)) {
        let to = Position(head.position.0.saturating_sub(back));
        match shared.entries(to, 1).await {
            Ok(slice) => size = size.max(slice.entries.first().map_or(0, |entry| entry.changes.len() as u64)),
            Err(StoreError::OutOfReach) => break,
            Err(error) => return Err(error),
        }
        loaded += (begin.0 - to.0).saturating_mul(size);
        if loaded > LOADED_CHANGES {
            break;
        }
        begin = to;
    }
    Ok((Head { position: begin, ..head }, head))
}

/// What an instance that is one of several follows beside its own writer.
pub struct ClusterLinks {
    /// The log that all of them write.
    pub shared_log: Arc<dyn SharedLog>,
    /// The way to the others.
    pub bus: BusHandle,
}

/// Why the follower stopped before it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FollowerStopped {
    /// A committed entry never arrived: only a bug, or a second writer on the same database, can do that.
    #[error(transparent)]
    Hole(#[from] Hole),
    /// The writer has ended before it.
    #[error("the writer has ended")]
    WriterGone,
    /// It panicked; the log says where.
    #[error("the follower panicked")]
    Panicked,
}

/// Follows the own writer, which is the only one: its entries come in order.
pub(super) async fn follow_solo(
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    mut inbox: mpsc::Receiver<News>,
) -> Result<(), FollowerStopped> {
    while let Some(news) = inbox.recv().await {
        match news {
            News::Entry(_, entry) => {
                log.apply(&entry)?;
                metrics.entries.of(EntrySource::Own).increment(1);
            }
            News::Ephemeral(event) => broadcast(&log, event).await,
        }
    }
    Ok(())
}

/// Delivers an ephemeral event, then lets the connections that have it write: what finds an outbox full is lost, so a
/// burst must not outrun clients that only wait for their turn on this thread.
async fn broadcast(log: &Log, event: Arc<Event>) {
    if log.broadcast(event) > 0 {
        tokio::task::yield_now().await;
    }
}

/// What the shared log has answered.
enum Answer {
    Head(Result<SharedHead, StoreError>),
    LogSlice(Result<LogSlice, StoreError>),
}

/// Follows as one of several instances, until the own writer is gone.
pub(super) async fn follow_cluster(
    log: Arc<Log>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    mut inbox: mpsc::Receiver<News>,
    own: mpsc::WeakSender<News>,
    links: ClusterLinks,
) -> Result<(), FollowerStopped> {
    let ClusterLinks { shared_log: shared, bus: BusHandle { publisher: bus, receiver: mut incoming } } = links;
    let mut up = bus.up();
    let mut follower = Follower {
        sequencer: Sequencer::new(log.clone(), metrics, Instant::now()),
        resubmitting: JoinSet::new(),
        bite: Bite::WHOLE,
        own,
        log,
        store,
    };
    let mut under_way: Option<BoxFuture<'static, Answer>> = None;
    let (mut bus_lives, mut up_lives) = (true, true);
    loop {
        let patience = if *up.borrow_and_update() { WITH_BUS } else { WITHOUT_BUS };
        let mut wake = Instant::now() + patience.poll;
        if under_way.is_none() {
            match follower.sequencer.next(Instant::now(), patience) {
                Step::Wait(until) => wake = until,
                Step::Ask => under_way = Some(ask(shared.clone())),
                Step::Read(after) => under_way = Some(read(shared.clone(), after, follower.bite)),
            }
        }
        tokio::select! {
            // The own writer first: clients wait for it, and the others wait for what it tells them.
            biased;
            news = inbox.recv() => match news {
                None => {
                    // A write is never cancelled; it ends with the store at the latest.
                    follower.resubmitting.detach_all();
                    return Ok(());
                }
                Some(News::Entry(epoch, entry)) => {
                    bus.publish(Message::Entries(epoch, vec![entry.clone()]));
                    follower.sequencer.offer(EntrySource::Own, epoch, entry, Instant::now());
                }
                Some(News::Ephemeral(event)) => {
                    bus.publish(Message::Ephemeral(vec![event.clone()]));
                    broadcast(&follower.log, event).await;
                }
            },
            message = incoming.recv(), if bus_lives => match message {
                None => bus_lives = false,
                Some(message) => follower.receive(message).await,
            },
            Some(answer) = OptionFuture::from(under_way.as_mut()) => {
                under_way = None;
                follower.answered(answer, patience);
            }
            changed = changed(&mut up), if up_lives => up_lives = changed,
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        follower.resubmit();
    }
}

async fn changed(up: &mut watch::Receiver<bool>) -> bool {
    up.changed().await.is_ok()
}

fn ask(shared: Arc<dyn SharedLog>) -> BoxFuture<'static, Answer> {
    async move { Answer::Head(in_time(bite::LOG_READ_TIMEOUT, shared.shared_head()).await) }.boxed()
}

fn read(shared: Arc<dyn SharedLog>, after: Position, bite: Bite) -> BoxFuture<'static, Answer> {
    async move { Answer::LogSlice(in_time(bite.patience, shared.entries(after, bite.changes)).await) }.boxed()
}

async fn in_time<T>(limit: Duration, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(StoreError::Timeout))
}

struct Follower {
    sequencer: Sequencer,
    log: Arc<Log>,
    store: Arc<dyn Store>,
    resubmitting: JoinSet<()>,
    bite: Bite,
    /// To ourselves, as the writer sends.
    own: mpsc::WeakSender<News>,
}

impl Follower {
    /// Has what a failover has cut off submitted again.
    fn resubmit(&mut self) {
        let lost = self.sequencer.take_cut_off();
        if lost.is_empty() {
            return;
        }
        // Ended ones are let go of here: there are about as many as there were failovers.
        while self.resubmitting.try_join_next().is_some() {}
        self.resubmitting.spawn(resubmit::run(self.store.clone(), self.log.clone(), lost, self.own.clone()));
    }

    async fn receive(&mut self, message: Message) {
        match message {
            Message::Entries(epoch, entries) => {
                for entry in entries {
                    self.sequencer.offer(EntrySource::Bus, epoch, entry, Instant::now());
                }
            }
            Message::Ephemeral(events) => {
                for event in events {
                    broadcast(&self.log, event).await;
                }
            }
            Message::Heartbeat => {}
        }
    }

    fn answered(&mut self, answer: Answer, patience: FollowTimings) {
        let now = Instant::now();
        if let Answer::LogSlice(result) = &answer {
            self.bite = self.bite.after(result);
        }
        let looked = match answer {
            Answer::Head(Ok(head)) => {
                self.sequencer.learn(head, now);
                Ok(())
            }
            Answer::LogSlice(Ok(slice)) => {
                self.sequencer.take(slice, now, patience);
                Ok(())
            }
            Answer::LogSlice(Err(StoreError::OutOfReach)) => {
                self.sequencer.out_of_reach(now);
                Ok(())
            }
            Answer::Head(Err(error)) | Answer::LogSlice(Err(error)) => Err(error),
        };
        match looked {
            Ok(()) => {
                self.log.set_primary_reachable(true);
            }
            Err(error) => {
                if self.log.set_primary_reachable(false) {
                    tracing::warn!(%error, "the shared log cannot be read; this instance goes on with what it has");
                }
                self.sequencer.failed(now, patience);
            }
        }
    }
}
