//! The first station: what is known needs no signature check; what policy refuses needs none either.

use super::{Job, Submission};
use crate::log::Log;
use crate::policy::{self, Rules};
use crate::store::{Store, StoreError};
use crate::telemetry::Stage;
use crate::types::{KindClass, Refusal, Verdict, now};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How many events one look at the store covers.
const GROUP: usize = 256;

/// How long a look may take. It only saves signature checks: the writer decides what is a duplicate. So no crowd of
/// readers, for whom the store's connections are, keeps events from being stored.
const PATIENCE: Duration = Duration::from_millis(200);

/// How many events go to a CPU worker at once: enough to make the hand-over cheap, few enough to share the work.
pub(super) const CHUNK: usize = 16;

pub(super) async fn run(
    store: Arc<dyn Store>,
    log: Arc<Log>,
    rules: Arc<ArcSwap<Rules>>,
    mut inbox: mpsc::Receiver<Submission>,
    verify: mpsc::Sender<Vec<Job>>,
) {
    let mut group = Vec::with_capacity(GROUP);
    while inbox.recv_many(&mut group, GROUP).await > 0 {
        group.iter_mut().for_each(|submission: &mut Submission| submission.passed(Stage::EventQueue));
        let unknown = without_known(&*store, &log, std::mem::take(&mut group)).await;
        let rules = rules.load_full();
        let now = now();
        let mut chunk = Vec::with_capacity(CHUNK);
        for mut submission in unknown {
            submission.passed(Stage::EventAdmit);
            match policy::check(&submission.event, &rules, &submission.access, now) {
                Ok(()) => chunk.push(Job::Submitted(submission)),
                Err(refusal) => submission.refuse(refusal),
            }
            if chunk.len() == CHUNK {
                hand_over(&verify, std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK))).await;
            }
        }
        if !chunk.is_empty() {
            hand_over(&verify, chunk).await;
        }
    }
}

/// Answers those that are already stored, as far as the store says so soon, and returns the others. A known id was
/// verified when it came first.
async fn without_known(store: &dyn Store, log: &Log, group: Vec<Submission>) -> Vec<Submission> {
    let (stored, unstored): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|submission| submission.event.kind().class() != KindClass::Ephemeral);
    if stored.is_empty() {
        return unstored;
    }
    let ids: Vec<_> = stored.iter().map(|submission| submission.event.id()).collect();
    let mut unknown = unstored;
    match timeout(PATIENCE, store.known(&ids)).await.unwrap_or(Err(StoreError::Overloaded)) {
        Ok((known, head)) => {
            for (submission, known) in stored.into_iter().zip(known) {
                if known {
                    log.acknowledge(head);
                    submission.answer(Verdict::Duplicate);
                } else {
                    unknown.push(submission);
                }
            }
        }
        Err(StoreError::Overloaded) => unknown.extend(stored),
        Err(error) => {
            tracing::error!(%error, "cannot look up which events are known");
            let refusal = Refusal::from(&error);
            stored.into_iter().for_each(|submission| submission.refuse(refusal.clone()));
        }
    }
    unknown
}

async fn hand_over(verify: &mpsc::Sender<Vec<Job>>, chunk: Vec<Job>) {
    if let Err(mpsc::error::SendError(chunk)) = verify.send(chunk).await {
        for job in chunk {
            if let Job::Submitted(submission) = job {
                submission.refuse(Refusal::ShuttingDown);
            }
        }
    }
}
