//! The one writer: commits events in groups, sends the log entry to the follower, and answers after the commit.
//!
//! A group is the events that came while the last commit ran, so an idle relay commits each event at once and a busy
//! one shares each fsync among hundreds. Ephemeral events, which are not committed, keep their places in the group.
//! Sweeps run here too, since positions must reach the follower in order.

use super::admit::EVENTS_PER_CHUNK;
use super::erase::Eraser;
use super::follower_input::FollowerInput;
use super::order::ChunkReceiver;
use super::recent::RecentEphemeral;
use super::sweep::{Sweep, Sweeper};
use super::{Admitted, Submission, is_ephemeral};
use crate::log::Log;
use crate::log::bus::Bus;
use crate::policy::Rules;
use crate::store::{Appended, Outcome, Store};
use crate::telemetry::{Metrics, Stage};
use crate::types::{Change, EphemeralEvent, Event, LogEntry, Refusal, Verdict, now};
use arc_swap::ArcSwap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// The most ephemeral events that one entry carries; later ones wait for the next commit. They are delivered without a
/// pause, so more of them would find outboxes full, and be lost.
const MAX_ATTACHED: usize = 64;

/// How the writer works.
#[derive(Debug, Clone, Copy)]
pub struct WriterSettings {
    /// The most events that one commit takes.
    pub max_batch: usize,
    /// How expired events leave the store; `None`: they stay.
    pub sweep: Option<Sweep>,
}

/// Knows whether an ephemeral event may have listeners.
pub(super) struct EphemeralAudience {
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) bus: Option<Arc<dyn Bus>>,
}

impl EphemeralAudience {
    /// True where the operator wants an event without a listener refused, and it has none. Other instances may have
    /// listeners that this one does not know, so beside peers it is never sure.
    fn is_surely_empty(&self, event: &Event, log: &Log) -> bool {
        self.rules.load().mute_unheard
            && !self.bus.as_ref().is_some_and(|bus| bus.has_peers())
            && !log.has_listener(event)
    }
}

/// The one writer, with the store that it commits to and the follower that it informs.
pub(super) struct EventWriter {
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Arc<Log>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) follow: mpsc::Sender<FollowerInput>,
    pub(super) audience: EphemeralAudience,
    pub(super) recent: Arc<RecentEphemeral>,
}

/// The follower has ended: the app stops, and reports the reason.
struct FollowerGone;

impl EventWriter {
    /// Commits the events in their order, until every sender of `inbox` is dropped.
    pub(super) async fn run(self, mut inbox: ChunkReceiver, settings: WriterSettings) {
        let mut sweeper = Sweeper::new(settings.sweep);
        let mut eraser = Eraser::new();
        let mut backlog = VecDeque::with_capacity(settings.max_batch);
        loop {
            let result = tokio::select! {
                // The sweep first: it is due rarely, and a busy inbox must not starve it.
                biased;
                () = sweeper.due() => match sweeper.sweep(&*self.store).await {
                    Some(swept) => self.send_to_follower(swept, Vec::new()).await,
                    None => Ok(()),
                },
                () = eraser.due() => match eraser.step(&*self.store, &self.audience.rules.load()).await {
                    Some(erased) => self.send_to_follower(erased, Vec::new()).await,
                    None => Ok(()),
                },
                more = inbox.fill(&mut backlog, settings.max_batch) => {
                    if !more {
                        return;
                    }
                    self.metrics.ingest_queue.set((backlog.len() + inbox.waiting() * EVENTS_PER_CHUNK) as f64);
                    let group = take_group(&mut backlog, settings.max_batch);
                    self.commit(group, &mut eraser).await
                }
            };

            if let Err(FollowerGone) = result {
                return;
            }
        }
    }

    /// Stores and delivers a group in its order, then answers it in its order.
    async fn commit(&self, group: Vec<Admitted>, eraser: &mut Eraser) -> Result<(), FollowerGone> {
        // The first ephemeral events come before every event that needs the commit, so they do not wait for it.
        let mut group = group.into_iter().peekable();
        while let Some(ephemeral) = group.next_if(Admitted::is_ephemeral) {
            self.deliver_ephemeral(ephemeral.submission).await?;
        }

        let mut batch = Vec::with_capacity(group.len());
        let mut submissions = Vec::with_capacity(group.len());
        for Admitted { submission, verified } in group {
            if !is_ephemeral(&submission.event) {
                batch.push(verified);
            }
            submissions.push(submission);
        }
        if batch.is_empty() {
            return Ok(());
        }

        self.metrics.batch_events.record(batch.len() as f64);
        let start = Instant::now();
        match self.store.append(batch, now()).await {
            Ok(appended) => {
                self.metrics.commit.record(start.elapsed());
                eraser.note(&appended.changes);
                self.deliver_and_answer(appended, submissions).await
            }
            Err(error) => {
                self.metrics.store_errors.increment(1);
                tracing::error!(%error, events = submissions.len(), "a batch could not be stored; its events were refused");
                let refusal = Refusal::from(&error);
                for submission in submissions {
                    if is_ephemeral(&submission.event) {
                        self.deliver_ephemeral(submission).await?;
                    } else {
                        submission.refuse(refusal.clone());
                    }
                }
                Ok(())
            }
        }
    }

    /// Sends a commit's changes to the follower, with the ephemeral events in their places, then answers all
    /// submissions.
    async fn deliver_and_answer(&self, appended: Appended, submissions: Vec<Submission>) -> Result<(), FollowerGone> {
        let head = appended.head;
        let mut outcomes = appended.outcomes.iter().copied();
        let insertions = appended.changes.iter().zip(1..).filter(|(change, _)| matches!(change, Change::Inserted(_)));
        let mut after_insertion = insertions.map(|(_, next)| next);
        let mut before = 0;
        let mut attached = Vec::new();
        let mut verdicts = Vec::with_capacity(submissions.len());
        for submission in &submissions {
            let verdict = if is_ephemeral(&submission.event) {
                let verdict = self.judge_ephemeral(&submission.event);
                if verdict == Verdict::Accepted {
                    attached.push(EphemeralEvent { before, event: submission.event.clone() });
                }
                verdict
            } else {
                let outcome = outcomes.next().unwrap_or(Outcome::Duplicate);
                if outcome == Outcome::Stored {
                    // Each stored event is one insertion, in the order of the batch.
                    before = after_insertion.next().unwrap_or(before);
                }
                verdict(outcome, submission)
            };
            verdicts.push(verdict);
        }

        drop(after_insertion);
        self.send_to_follower(appended, attached).await?;
        // Before the answers: a client that reads after its OK must find its event.
        self.log.acknowledge(head);
        for (mut submission, verdict) in submissions.into_iter().zip(verdicts) {
            submission.passed(Stage::EventCommit);
            submission.answer(verdict);
        }
        Ok(())
    }

    /// Sends an ephemeral event to the follower without an entry, and answers it.
    async fn deliver_ephemeral(&self, submission: Submission) -> Result<(), FollowerGone> {
        let verdict = self.judge_ephemeral(&submission.event);
        if verdict == Verdict::Accepted {
            self.send(FollowerInput::Ephemeral(submission.event.clone())).await?;
        }
        submission.answer(verdict);
        Ok(())
    }

    /// Decides whether an ephemeral event is delivered. An accepted one is noted, so that it is not delivered again.
    fn judge_ephemeral(&self, event: &Event) -> Verdict {
        if self.recent.contains(&event.id()) {
            Verdict::Duplicate
        } else if self.audience.is_surely_empty(event, &self.log) {
            Verdict::Refused(Refusal::Unheard)
        } else if self.recent.insert(event, now()) {
            Verdict::Accepted
        } else {
            // It has come over the bus meanwhile.
            Verdict::Duplicate
        }
    }

    async fn send_to_follower(&self, appended: Appended, attached: Vec<EphemeralEvent>) -> Result<(), FollowerGone> {
        for change in &appended.changes {
            if let Change::Removed(removal) = change {
                self.metrics.removals.of(removal.cause).increment(1);
            }
        }
        if appended.changes.is_empty() {
            for EphemeralEvent { event, .. } in attached {
                self.send(FollowerInput::Ephemeral(event)).await?;
            }
            return Ok(());
        }
        let entry = LogEntry { ephemeral: attached, ..LogEntry::new(appended.head.position, appended.changes) };
        self.metrics.follow_queue.set((self.follow.max_capacity() - self.follow.capacity()) as f64);
        self.send(FollowerInput::Entry(appended.head.epoch, entry)).await
    }

    async fn send(&self, input: FollowerInput) -> Result<(), FollowerGone> {
        self.follow.send(input).await.map_err(|_| FollowerGone)
    }
}

/// Takes the next group from `backlog`: up to `max` events, of which one entry must be able to carry the ephemeral
/// ones.
fn take_group(backlog: &mut VecDeque<Admitted>, max: usize) -> Vec<Admitted> {
    let mut attached = 0;
    let mut stored = 0;
    let fits = |admitted: &&Admitted| {
        if !admitted.is_ephemeral() {
            stored += 1;
        } else if stored > 0 {
            attached += 1;
        }
        attached <= MAX_ATTACHED
    };
    let count = backlog.iter().take(max).take_while(fits).count();
    let mut group: Vec<_> = backlog.drain(..count).collect();
    group.iter_mut().for_each(|admitted| admitted.submission.passed(Stage::EventWriteQueue));
    group
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
