//! The follower: the one task that applies entries to the log, in order. A solo instance takes them from its own
//! writer; one of a cluster takes them from the bus and from the shared log too.

use super::follower_input::FollowerInput;
use super::read_budget::{ReadBudget, SHARED_LOG_TIMEOUT};
use super::recent::RecentEphemeral;
use super::resubmit;
use crate::log::bus::{BusHandle, Message};
use crate::log::{FollowTimings, Hole, Log, Sequencer, Step};
use crate::store::{LogSlice, SharedHead, SharedLog, Store, StoreError};
use crate::task::Tasks;
use crate::telemetry::{EntrySource, Metrics, Task};
use crate::types::{Event, Head, Position, now};
use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;

/// While the bus is up, the shared log is read only for what the bus has lost.
const WITH_BUS: FollowTimings = FollowTimings {
    hole: Duration::from_millis(5),
    poll: Duration::from_millis(200),
    retry: Duration::from_millis(50),
};
/// While it is down, the shared log is the only source.
const WITHOUT_BUS: FollowTimings =
    FollowTimings { hole: Duration::ZERO, poll: Duration::from_millis(25), retry: Duration::from_millis(50) };

/// How many positions before the head a new instance begins: the largest of these that costs no more than
/// [`MAX_CHANGES_AT_START`]. Far enough, as a rule, that lagging replicas are within its ring.
const START_DISTANCES: [u64; 3] = [8, 64, 512];
/// The same with a shared cache, whose entries are some minutes old: older ones than its ring reaches back to are of no
/// use to it.
const START_DISTANCES_FOR_CACHE: [u64; 2] = [4_096, 32_768];
/// About the most changes that a new instance reads: a second or two, where the last entries are those of a large
/// import.
const MAX_CHANGES_AT_START: u64 = 131_072;

/// Where a new instance begins to follow a shared log, and the head that it must reach before it can answer queries.
/// The recent tail is between the two, as far as the log still has it; it is longer for an instance with a
/// `shared_cache`. The size of its entries is estimated from some of them.
pub async fn beginning(shared: &dyn SharedLog, shared_cache: bool) -> Result<(Head, Head), StoreError> {
    let head = shared.shared_head().await?.head;
    let (mut begin, mut loaded, mut size) = (head.position, 0, 0);
    for back in START_DISTANCES.into_iter().chain(START_DISTANCES_FOR_CACHE.into_iter().filter(|_| shared_cache)) {
        let to = Position(head.position.0.saturating_sub(back));
        match shared.entries(to, 1).await {
            Ok(slice) => size = size.max(slice.entries.first().map_or(0, |entry| entry.changes.len() as u64)),
            Err(StoreError::OutOfReach) => break,
            Err(error) => return Err(error),
        }
        loaded += (begin.0 - to.0).saturating_mul(size);
        if loaded > MAX_CHANGES_AT_START {
            break;
        }
        begin = to;
    }
    Ok((Head { position: begin, ..head }, head))
}

/// What an instance of a cluster follows beside its own writer.
pub struct ClusterLinks {
    /// The log that all instances write.
    pub shared_log: Arc<dyn SharedLog>,
    /// The way to the other instances.
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

/// Follows the own writer, the only one: its entries come in order. Ends when the writer does.
pub(super) async fn follow_solo(
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    mut inbox: mpsc::Receiver<FollowerInput>,
) -> Result<(), FollowerStopped> {
    while let Some(input) = inbox.recv().await {
        match input {
            FollowerInput::Entry(_, entry) => {
                log.apply(&entry)?;
                metrics.entries.of(EntrySource::Own).increment(1);
                if !entry.ephemeral.is_empty() {
                    tokio::task::yield_now().await;
                }
            }
            FollowerInput::Ephemeral(event) => broadcast(&log, event).await,
        }
    }
    Ok(())
}

/// Delivers an ephemeral event, then yields to the connections that have it: an event that finds an outbox full is
/// lost, so a burst must not outrun clients that only wait for their turn on this thread.
async fn broadcast(log: &Log, event: Arc<Event>) {
    if log.broadcast(event) > 0 {
        tokio::task::yield_now().await;
    }
}

/// What the shared log has answered.
enum SharedLogAnswer {
    Head(Result<SharedHead, StoreError>),
    LogSlice(Result<LogSlice, StoreError>),
}

async fn changed(up: &mut watch::Receiver<bool>) -> bool {
    up.changed().await.is_ok()
}

fn ask(shared: Arc<dyn SharedLog>) -> BoxFuture<'static, SharedLogAnswer> {
    async move { SharedLogAnswer::Head(in_time(SHARED_LOG_TIMEOUT, shared.shared_head()).await) }.boxed()
}

fn read(shared: Arc<dyn SharedLog>, after: Position, budget: ReadBudget) -> BoxFuture<'static, SharedLogAnswer> {
    async move { SharedLogAnswer::LogSlice(in_time(budget.timeout, shared.entries(after, budget.changes)).await) }
        .boxed()
}

async fn in_time<T>(limit: Duration, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(StoreError::Timeout))
}

/// The follower of an instance of a cluster.
pub(super) struct ClusterFollower {
    sequencer: Sequencer,
    log: Arc<Log>,
    store: Arc<dyn Store>,
    resubmitting: JoinSet<()>,
    read_budget: ReadBudget,
    /// The follower's own inbox, for what is submitted again.
    own: mpsc::WeakSender<FollowerInput>,
    recent: Arc<RecentEphemeral>,
    tasks: Tasks,
}

impl ClusterFollower {
    pub(super) fn new(
        log: Arc<Log>,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        own: mpsc::WeakSender<FollowerInput>,
        recent: Arc<RecentEphemeral>,
        tasks: Tasks,
    ) -> Self {
        Self {
            sequencer: Sequencer::new(log.clone(), metrics, Instant::now()),
            resubmitting: JoinSet::new(),
            read_budget: ReadBudget::FULL,
            own,
            log,
            store,
            recent,
            tasks,
        }
    }

    /// Follows until the own writer is gone.
    pub(super) async fn follow_cluster(
        mut self,
        mut inbox: mpsc::Receiver<FollowerInput>,
        links: ClusterLinks,
    ) -> Result<(), FollowerStopped> {
        let ClusterLinks { shared_log, bus: BusHandle { publisher: bus, receiver: mut incoming } } = links;
        let mut up = bus.up();
        let mut under_way: Option<BoxFuture<'static, SharedLogAnswer>> = None;
        let (mut bus_lives, mut up_lives) = (true, true);
        loop {
            let patience = if *up.borrow_and_update() { WITH_BUS } else { WITHOUT_BUS };
            let mut wake = Instant::now() + patience.poll;
            if under_way.is_none() {
                match self.sequencer.next(Instant::now(), patience) {
                    Step::Wait(until) => wake = until,
                    Step::Ask => under_way = Some(ask(shared_log.clone())),
                    Step::Read(after) => under_way = Some(read(shared_log.clone(), after, self.read_budget)),
                }
            }
            tokio::select! {
                // The own writer first: its clients wait, and so do the other instances for what it publishes.
                biased;
                input = inbox.recv() => match input {
                    None => {
                        // A write is never cancelled; it ends with the store at the latest.
                        self.resubmitting.detach_all();
                        return Ok(());
                    }
                    Some(FollowerInput::Entry(epoch, entry)) => {
                        bus.publish(Message::Entries(epoch, vec![entry.clone()]));
                        self.sequencer.offer(EntrySource::Own, epoch, entry, Instant::now());
                    }
                    Some(FollowerInput::Ephemeral(event)) => {
                        bus.publish(Message::Ephemeral(vec![event.clone()]));
                        self.broadcast(event).await;
                    }
                },
                message = incoming.recv(), if bus_lives => match message {
                    None => bus_lives = false,
                    Some(message) => self.receive(message).await,
                },
                Some(answer) = OptionFuture::from(under_way.as_mut()) => {
                    under_way = None;
                    self.answered(answer, patience);
                }
                changed = changed(&mut up), if up_lives => up_lives = changed,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            self.resubmit();
        }
    }

    /// Has what a failover has cut off submitted again.
    fn resubmit(&mut self) {
        let lost = self.sequencer.take_cut_off();
        if lost.is_empty() {
            return;
        }
        // Frees the tasks that have ended. There is about one for each failover.
        while self.resubmitting.try_join_next().is_some() {}
        let (store, log, own) = (self.store.clone(), self.log.clone(), self.own.clone());
        // The store decides duplicates, so that it may begin again.
        let resubmit = move || resubmit::run(store.clone(), log.clone(), lost.clone(), own.clone());
        self.resubmitting.spawn(self.tasks.restarting(Task::Resubmission, resubmit));
    }

    /// Delivers an ephemeral event after the entries that came before it, as [`broadcast`] does.
    async fn broadcast(&mut self, event: Arc<Event>) {
        if let Err(event) = self.sequencer.attach(event) {
            broadcast(&self.log, event).await;
        }
    }

    async fn receive(&mut self, message: Message) {
        match message {
            Message::Entries(epoch, entries) => {
                for mut entry in entries {
                    entry.ephemeral.retain(|ephemeral| self.recent.insert(&ephemeral.event, now()));
                    self.sequencer.offer(EntrySource::Bus, epoch, entry, Instant::now());
                }
            }
            Message::Ephemeral(events) => {
                for event in events {
                    if self.recent.insert(&event, now()) {
                        self.broadcast(event).await;
                    }
                }
            }
            Message::Heartbeat => {}
        }
    }

    fn answered(&mut self, answer: SharedLogAnswer, patience: FollowTimings) {
        let now = Instant::now();
        if let SharedLogAnswer::LogSlice(result) = &answer {
            self.read_budget = self.read_budget.after(result);
        }
        let looked = match answer {
            SharedLogAnswer::Head(Ok(head)) => {
                self.sequencer.learn(head, now);
                Ok(())
            }
            SharedLogAnswer::LogSlice(Ok(slice)) => {
                self.sequencer.take(slice, now, patience);
                Ok(())
            }
            SharedLogAnswer::LogSlice(Err(StoreError::OutOfReach)) => {
                self.sequencer.out_of_reach(now);
                Ok(())
            }
            SharedLogAnswer::Head(Err(error)) | SharedLogAnswer::LogSlice(Err(error)) => Err(error),
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
