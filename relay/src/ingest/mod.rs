//! The journey of an event: known ids first, then policy, then signatures on CPU workers, then one writer that commits
//! in groups, then the log.
//!
//! ```text
//! connection ──► admit ──► verify ×N ──► write ──► follow ──► ring, matcher, outboxes
//!                  │           │           │
//!                  └─ OK ◄─────┴─── OK ◄───┘
//! ```
//!
//! Every arrow is a bounded channel. A full one makes the station before it wait, and in the end the client's socket:
//! nothing is dropped and nothing grows.

mod admit;
mod bite;
mod erase;
mod follow;
mod resubmit;
mod submission;
mod sweep;
mod write;

pub use follow::{ClusterLinks, FollowerStopped, beginning};
pub use submission::{InFlight, Submission};
pub use sweep::Sweep;
pub use write::WriterSettings;
#[cfg(test)]
pub(crate) use {follow::News, resubmit::run as resubmission};

use crate::log::Log;
use crate::policy::Rules;
use crate::store::Store;
use crate::telemetry::{Metrics, Stage};
use crate::types::{Event, Refusal, Verified};
use crate::verify::Workers;
use arc_swap::ArcSwap;
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
    verify: mpsc::Sender<Vec<Job>>,
}

/// What the CPU workers are asked to check.
pub(crate) enum Job {
    /// An event on its way to the writer.
    Submitted(Submission),
    /// An event whose signature alone is of interest (NIP-42).
    Question(Arc<Event>, oneshot::Sender<bool>),
}

impl AsRef<Arc<Event>> for Job {
    fn as_ref(&self) -> &Arc<Event> {
        match self {
            Self::Submitted(submission) => &submission.event,
            Self::Question(event, _) => event,
        }
    }
}

/// An event that may be stored.
pub(crate) struct Admitted {
    submission: Submission,
    verified: Verified,
}

/// The running stations, in the order in which they end once the doors are closed.
pub struct Stations {
    admit: JoinHandle<()>,
    workers: Workers,
    write: JoinHandle<()>,
    follow: FollowerTask,
}

/// The follower, or how it ended.
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
        Self::start_clustered(store, log, rules, metrics, settings, None)
    }

    /// Starts the stations; with `following`, as one of several instances of one log.
    pub fn start_clustered(
        store: Arc<dyn Store>,
        log: Arc<Log>,
        rules: Arc<ArcSwap<Rules>>,
        metrics: Arc<Metrics>,
        settings: IngestSettings,
        links: Option<ClusterLinks>,
    ) -> std::io::Result<(Self, Stations)> {
        let (admit_in, admit_out) = mpsc::channel(settings.queue);
        let (verify_in, verify_out) = mpsc::channel((settings.queue / admit::CHUNK).max(1));
        let (write_in, write_out) = mpsc::channel(settings.queue);
        let (follow_in, follow_out) = mpsc::channel(follow::QUEUE);
        let bus = links.as_ref().map(|links| links.bus.publisher.clone());
        let follow = FollowerTask::Running(match links {
            None => tokio::spawn(follow::follow_solo(log.clone(), metrics.clone(), follow_out)),
            Some(links) => {
                let (log, store, metrics) = (log.clone(), store.clone(), metrics.clone());
                tokio::spawn(follow::follow_cluster(log, store, metrics, follow_out, follow_in.downgrade(), links))
            }
        });
        let write = tokio::spawn(write::run(
            store.clone(),
            log.clone(),
            metrics.clone(),
            write_out,
            follow_in,
            write::Hearing { rules: rules.clone(), bus },
            settings.writer,
        ));
        let workers = Workers::spawn(settings.verify_threads, verify_out, metrics, move |job: Job, verified| {
            job.checked(verified, &write_in);
        })?;
        let admit = tokio::spawn(admit::run(store, log, rules, admit_out, verify_in.clone()));
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
        self.verify.send(vec![Job::Question(event, answer)]).await.map_err(|_| IngestClosed)?;
        question.await.map_err(|_| IngestClosed)
    }

    /// How many events wait for the first station; for metrics.
    pub fn waiting_for_admission(&self) -> usize {
        self.admit.max_capacity() - self.admit.capacity()
    }

    /// How many events wait for a CPU worker, about; for metrics.
    pub fn waiting_for_verification(&self) -> usize {
        (self.verify.max_capacity() - self.verify.capacity()) * admit::CHUNK
    }
}

impl Job {
    fn checked(self, verified: Option<Verified>, write: &mpsc::Sender<Admitted>) {
        match self {
            Self::Question(_, answer) => {
                // Nobody waits any more when the connection has gone.
                let _ = answer.send(verified.is_some());
            }
            Self::Submitted(mut submission) => {
                submission.passed(Stage::EventVerify);
                let Some(verified) = verified else { return submission.refuse(Refusal::WrongSignature) };
                let admitted = Admitted { submission, verified };
                if let Err(mpsc::error::SendError(admitted)) = write.blocking_send(admitted) {
                    admitted.submission.refuse(Refusal::ShuttingDown);
                }
            }
        }
    }
}

impl Stations {
    /// Returns once the follower has ended although nobody closed the doors: the relay can't go on. Cancel safe.
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

    /// Waits until everything that was handed in is committed and delivered. Call it after the last [`Ingest`] is
    /// gone, or it waits for ever.
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
