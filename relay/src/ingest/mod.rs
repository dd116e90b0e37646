//! The journey of an event: policy first, then known ids, then signatures on CPU workers, then one writer that commits
//! in groups, then the log.
//!
//! ```text
//! connection ──► admit ──► verify ×N ──► write ──► follow ──► ring, matcher, outboxes
//!                  │           │           │
//!                  └─ OK ◄─────┴─── OK ◄───┘
//! ```
//!
//! Every arrow is a bounded channel. A full one makes the station before it wait, and in the end the client's socket:
//! nothing is dropped and nothing grows. Events keep the order in which they were handed in, from the first arrow to
//! the last; only the OK of one that is refused or known on the way comes early.

mod admit;
mod erase;
mod follow;
mod follower_input;
mod order;
mod read_budget;
mod recent;
mod resubmit;
mod submission;
mod sweep;
#[cfg(test)]
mod tests;
mod write;

pub use follow::{ClusterLinks, FollowerStopped, beginning};
pub use submission::{InFlight, Submission};
pub use sweep::Sweep;
pub use write::WriterSettings;
#[cfg(test)]
pub(crate) use {follower_input::FollowerInput, resubmit::run as resubmission};

use crate::log::Log;
use crate::policy::Rules;
use crate::store::Store;
use crate::task::Tasks;
use crate::telemetry::{Metrics, Stage, Task};
use crate::types::{Event, KindClass, Refusal, Verified};
use crate::verify::{Checker, Workers};
use arc_swap::ArcSwap;
use follower_input::MAX_QUEUED_INPUTS;
use order::ChunkPlace;
use recent::RecentEphemeral;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How the stations are dimensioned.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// How many events may wait before each station.
    pub queue: usize,
    /// How many threads check signatures.
    pub verify_threads: usize,
    /// How the writer groups and sweeps.
    pub writer: WriterSettings,
}

/// The relay is shutting down: no event is taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay is shutting down")]
pub struct IngestClosed;

/// The door to the journey. Cheap to clone; the journey ends once every clone is gone.
#[derive(Clone)]
pub struct Ingest {
    admit: mpsc::Sender<Submission>,
    verify: mpsc::Sender<Job>,
}

/// What the CPU workers are asked to check.
enum Job {
    /// Events on their way to the writer, and where it takes them from.
    Chunk(Vec<Submission>, ChunkPlace),
    /// An event whose signature alone is of interest (NIP-42).
    Question(Arc<Event>, oneshot::Sender<bool>),
}

/// An event that may be stored.
struct Admitted {
    submission: Submission,
    verified: Verified,
}

impl Admitted {
    fn is_ephemeral(&self) -> bool {
        is_ephemeral(&self.submission.event)
    }
}

fn is_ephemeral(event: &Event) -> bool {
    event.kind().class() == KindClass::Ephemeral
}

/// The running stations, in the order in which they end once the doors are closed.
pub struct Stations {
    admit: JoinHandle<()>,
    workers: Workers,
    write: JoinHandle<()>,
    follow: FollowerTask,
}

/// The follower's task, or how it ended.
enum FollowerTask {
    Running(JoinHandle<Result<(), FollowerStopped>>),
    Stopped(FollowerStopped),
}

impl Ingest {
    /// Starts the stations of an instance that is the only writer of its store. Fails when the system gives no thread.
    pub fn start(
        store: Arc<dyn Store>,
        log: Arc<Log>,
        rules: Arc<ArcSwap<Rules>>,
        metrics: Arc<Metrics>,
        settings: IngestSettings,
    ) -> std::io::Result<(Self, Stations)> {
        let tasks = Tasks::new(metrics.clone());
        Self::start_clustered(store, log, rules, metrics, settings, None, &tasks)
    }

    /// Starts the stations; with `links`, as one of several instances of one log.
    pub fn start_clustered(
        store: Arc<dyn Store>,
        log: Arc<Log>,
        rules: Arc<ArcSwap<Rules>>,
        metrics: Arc<Metrics>,
        settings: IngestSettings,
        links: Option<ClusterLinks>,
        tasks: &Tasks,
    ) -> std::io::Result<(Self, Stations)> {
        let (admit_in, admit_out) = mpsc::channel(settings.queue);
        let chunks = settings.queue.div_ceil(admit::EVENTS_PER_CHUNK);
        let (verify_in, verify_out) = mpsc::channel(chunks.max(1));
        // As many again may wait for the writer as for the workers.
        let (chunk_in, chunk_out) = order::in_order(verify_in.clone(), 2 * chunks);
        let (follow_in, follow_out) = mpsc::channel(MAX_QUEUED_INPUTS);
        let recent = Arc::new(RecentEphemeral::default());
        let bus = links.as_ref().map(|links| links.bus.publisher.clone());
        let follow = FollowerTask::Running(match links {
            None => tasks.spawn(Task::Follow, follow::follow_solo(log.clone(), metrics.clone(), follow_out)),
            Some(links) => {
                let own = follow_in.downgrade();
                let follower = follow::ClusterFollower::new(
                    log.clone(),
                    store.clone(),
                    metrics.clone(),
                    own,
                    recent.clone(),
                    tasks.clone(),
                );
                tasks.spawn(Task::Follow, follower.follow_cluster(follow_out, links))
            }
        });
        let writer = write::EventWriter {
            store: store.clone(),
            log: log.clone(),
            metrics: metrics.clone(),
            follow: follow_in,
            audience: write::EphemeralAudience { rules: rules.clone(), bus },
            recent: recent.clone(),
        };
        let write = tasks.spawn(Task::Write, writer.run(chunk_out, settings.writer));
        let workers = Workers::spawn(settings.verify_threads, verify_out, metrics, tasks, Job::run)?;
        let admission = admit::Admission { store, log, rules, recent, chunks: chunk_in };
        let admit = tasks.spawn(Task::Admit, admission.run(admit_out));
        Ok((Self { admit: admit_in, verify: verify_in }, Stations { admit, workers, write, follow }))
    }

    /// Hands an event in; its OK will come to the submission's outbox. Waits while the stations are busy. Cancel
    /// safe: a submission whose future was dropped was not handed in.
    pub async fn submit(&self, submission: Submission) -> Result<(), IngestClosed> {
        self.admit.send(submission).await.map_err(|_| IngestClosed)
    }

    /// Hands an event in if the first station has room; gives it back if not.
    // It goes back as it came; a box would be an allocation for each event.
    #[allow(clippy::result_large_err)]
    pub fn try_submit(&self, submission: Submission) -> Result<(), Submission> {
        self.admit.try_send(submission).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Asks the CPU workers whether a signature holds. Cancel safe.
    pub async fn signature_holds(&self, event: Arc<Event>) -> Result<bool, IngestClosed> {
        let (answer, question) = oneshot::channel();
        self.verify.send(Job::Question(event, answer)).await.map_err(|_| IngestClosed)?;
        question.await.map_err(|_| IngestClosed)
    }

    /// How many events wait for the first station; for metrics.
    pub fn waiting_for_admission(&self) -> usize {
        self.admit.max_capacity() - self.admit.capacity()
    }

    /// How many events wait for a CPU worker, about; for metrics.
    pub fn waiting_for_verification(&self) -> usize {
        (self.verify.max_capacity() - self.verify.capacity()) * admit::EVENTS_PER_CHUNK
    }
}

impl Job {
    /// On a CPU worker.
    fn run(self, checker: &Checker) {
        match self {
            Self::Question(event, answer) => {
                // An error means that the connection has gone.
                let _ = answer.send(checker.check(&event).is_some());
            }
            Self::Chunk(chunk, place) => {
                let mut admitted = Vec::with_capacity(chunk.len());
                for mut submission in chunk {
                    let verified = checker.check(&submission.event);
                    submission.passed(Stage::EventVerify);
                    match verified {
                        Some(verified) => admitted.push(Admitted { submission, verified }),
                        None => submission.refuse(Refusal::WrongSignature),
                    }
                }
                place.fill(admitted);
            }
        }
    }
}

impl Stations {
    /// Returns when the follower has ended though the relay is not shutting down: then the relay cannot go on. Cancel
    /// safe.
    pub async fn failed(&mut self) -> FollowerStopped {
        let why = match &mut self.follow {
            FollowerTask::Running(task) => match task.await {
                Ok(Ok(())) => FollowerStopped::WriterGone,
                Ok(Err(why)) => why,
                Err(_) => FollowerStopped::Panicked,
            },
            FollowerTask::Stopped(why) => *why,
        };
        self.follow = FollowerTask::Stopped(why);
        why
    }

    /// Waits until every submitted event is committed and delivered. To be called after the last [`Ingest`] is dropped:
    /// else it waits without end.
    pub async fn drained(self) -> Result<(), FollowerStopped> {
        // A station that panicked has logged it; the others still finish what they have.
        let _ = self.admit.await;
        let workers = self.workers;
        let _ = tokio::task::spawn_blocking(move || workers.join()).await;
        let _ = self.write.await;
        match self.follow {
            FollowerTask::Running(task) => task.await.unwrap_or(Err(FollowerStopped::Panicked)),
            FollowerTask::Stopped(why) => Err(why),
        }
    }
}
