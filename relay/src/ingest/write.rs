//! The one writer: commits in groups, answers after the commit, hands the log entry on.
//!
//! A group is whatever has come while the last commit ran, so an idle relay commits each event at once and a busy one
//! shares each fsync among hundreds. Sweeps run here too: positions must reach the follower in order.

use super::erase::Eraser;
use super::follow::News;
use super::sweep::{Sweep, Sweeper};
use super::{Admitted, Submission};
use crate::log::Log;
use crate::log::bus::Bus;
use crate::policy::Rules;
use crate::store::{Appended, Outcome, Store};
use crate::telemetry::{Metrics, Stage};
use crate::types::{Change, Event, KindClass, LogEntry, Refusal, Verdict, now};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// How the writer works.
#[derive(Debug, Clone, Copy)]
pub struct WriterSettings {
    /// The most events that one commit takes.
    pub max_batch: usize,
    /// How expired events leave the store; `None`: they stay.
    pub sweep: Option<Sweep>,
}

/// Whether an ephemeral event finds a listener.
pub(super) struct Hearing {
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) bus: Option<Arc<dyn Bus>>,
}

impl Hearing {
    /// True where the operator wants such an event refused and it is certain that nobody listens: other instances may
    /// have listeners that this one does not know.
    fn certainly_nobody(&self, event: &Event, log: &Log) -> bool {
        self.rules.load().mute_unheard
            && !self.bus.as_ref().is_some_and(|bus| bus.has_peers())
            && !log.has_listener(event)
    }
}

pub(super) async fn run(
    store: Arc<dyn Store>,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    mut inbox: mpsc::Receiver<Admitted>,
    follow: mpsc::Sender<News>,
    hearing: Hearing,
    settings: WriterSettings,
) {
    let mute = |event: &Event| hearing.certainly_nobody(event, &log);
    let mut sweeper = Sweeper::new(settings.sweep);
    let mut eraser = Eraser::new();
    let mut group = Vec::with_capacity(settings.max_batch);
    loop {
        let follows = tokio::select! {
            // The sweep first: it is due rarely, and a busy inbox must not starve it.
            biased;
            () = sweeper.due() => match sweeper.sweep(&*store).await {
                Some(swept) => hand_on(swept, &metrics, &follow).await,
                None => Ok(()),
            },
            () = eraser.due() => match eraser.step(&*store, &hearing.rules.load()).await {
                Some(erased) => hand_on(erased, &metrics, &follow).await,
                None => Ok(()),
            },
            count = inbox.recv_many(&mut group, settings.max_batch) => {
                if count == 0 {
                    return;
                }
                metrics.ingest_queue.set(inbox.len() as f64);
                group.iter_mut().for_each(|admitted: &mut Admitted| admitted.submission.passed(Stage::EventWriteQueue));
                commit(&*store, &log, &metrics, std::mem::take(&mut group), &follow, mute, &mut eraser).await
            }
        };
        if follows.is_err() {
            // The follower is gone; the app is stopping and says why.
            return;
        }
    }
}

async fn commit(
    store: &dyn Store,
    log: &Log,
    metrics: &Metrics,
    group: Vec<Admitted>,
    follow: &mpsc::Sender<News>,
    mute: impl Fn(&Event) -> bool,
    eraser: &mut Eraser,
) -> Result<(), mpsc::error::SendError<News>> {
    let (ephemeral, stored): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|admitted| admitted.submission.event.kind().class() == KindClass::Ephemeral);
    for Admitted { submission, .. } in ephemeral {
        if mute(&submission.event) {
            submission.refuse(Refusal::Unheard);
            continue;
        }
        follow.send(News::Ephemeral(submission.event.clone())).await?;
        submission.answer(Verdict::Accepted);
    }
    if stored.is_empty() {
        return Ok(());
    }
    let (stored, batch): (Vec<_>, Vec<_>) =
        stored.into_iter().map(|Admitted { submission, verified }| (submission, verified)).unzip();
    metrics.batch_events.record(stored.len() as f64);
    let start = Instant::now();
    match store.append(batch, now()).await {
        Ok(appended) => {
            metrics.commit.record(start.elapsed());
            let outcomes = appended.outcomes.clone();
            let head = appended.head;
            eraser.note(&appended.changes);
            hand_on(appended, metrics, follow).await?;
            log.acknowledge(head);
            for (mut submission, outcome) in stored.into_iter().zip(outcomes) {
                submission.passed(Stage::EventCommit);
                let verdict = verdict(outcome, &submission);
                submission.answer(verdict);
            }
        }
        Err(error) => {
            metrics.store_errors.increment(1);
            tracing::error!(%error, events = stored.len(), "a batch could not be stored; its events were refused");
            let refusal = Refusal::from(&error);
            stored.into_iter().for_each(|submission| submission.refuse(refusal.clone()));
        }
    }
    Ok(())
}

async fn hand_on(
    appended: Appended,
    metrics: &Metrics,
    follow: &mpsc::Sender<News>,
) -> Result<(), mpsc::error::SendError<News>> {
    for change in &appended.changes {
        if let Change::Removed(removal) = change {
            metrics.removals.of(removal.cause).increment(1);
        }
    }
    if appended.changes.is_empty() {
        return Ok(());
    }
    let entry = LogEntry::new(appended.head.position, appended.changes);
    metrics.follow_queue.set((follow.max_capacity() - follow.capacity()) as f64);
    follow.send(News::Entry(appended.head.epoch, entry)).await
}

fn verdict(outcome: Outcome, submission: &Submission) -> Verdict {
    match outcome {
        Outcome::Stored => Verdict::Accepted,
        Outcome::Duplicate => Verdict::Duplicate,
        Outcome::Superseded => Verdict::Refused(Refusal::Superseded),
        Outcome::Deleted => Verdict::Refused(Refusal::Deleted),
        Outcome::Vanished => Verdict::Refused(Refusal::Vanished),
        Outcome::Expired => {
            Verdict::Refused(Refusal::Expired { at: submission.event.expires_at().unwrap_or_default() })
        }
    }
}
