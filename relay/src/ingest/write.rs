//! The one writer: commits in groups, answers after the commit, hands the log entry on.
//!
//! A group is whatever has come while the last commit ran, so an idle relay commits each event at once and a busy one
//! shares each fsync among hundreds. Sweeps run here too: positions must reach the follower in order.

use super::Submission;
use super::follow::News;
use crate::log::Log;
use crate::store::{Appended, Outcome, Store, StoreError};
use crate::types::{KindClass, LogEntry, Refusal, Verdict, Verified, now};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How the writer works.
#[derive(Debug, Clone, Copy)]
pub struct WriterSettings {
    /// The most events that one commit takes.
    pub max_batch: usize,
    /// How often expired events are looked for.
    pub sweep_interval: Duration,
    /// How many expired events one commit removes.
    pub sweep_batch: usize,
}

pub(super) async fn run(
    store: Arc<dyn Store>,
    log: Arc<Log>,
    mut inbox: mpsc::Receiver<Submission>,
    follow: mpsc::Sender<News>,
    settings: WriterSettings,
) {
    let mut sweep = tokio::time::interval(settings.sweep_interval.max(Duration::from_millis(10)));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut group = Vec::with_capacity(settings.max_batch);
    loop {
        let follows = tokio::select! {
            // The sweep first: it is due rarely, and a busy inbox must not starve it.
            biased;
            _ = sweep.tick() => sweep_expired(&*store, &follow, settings.sweep_batch).await,
            count = inbox.recv_many(&mut group, settings.max_batch) => {
                if count == 0 {
                    return;
                }
                commit(&*store, &log, std::mem::take(&mut group), &follow).await
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
    group: Vec<Submission>,
    follow: &mpsc::Sender<News>,
) -> Result<(), mpsc::error::SendError<News>> {
    let (ephemeral, stored): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|submission| submission.event.kind().class() == KindClass::Ephemeral);
    for submission in ephemeral {
        follow.send(News::Ephemeral(submission.event.clone())).await?;
        submission.answer(Verdict::Accepted);
    }
    if stored.is_empty() {
        return Ok(());
    }
    let batch = stored.iter().map(|submission| Verified::vouch(submission.event.clone())).collect();
    match store.append(batch, now()).await {
        Ok(appended) => {
            let outcomes = appended.outcomes.clone();
            let position = appended.head.position;
            hand_on(appended, follow).await?;
            log.acknowledge(position);
            for (submission, outcome) in stored.into_iter().zip(outcomes) {
                let verdict = verdict(outcome, &submission);
                submission.answer(verdict);
            }
        }
        Err(error) => {
            tracing::error!(%error, events = stored.len(), "a batch could not be stored; its events were refused");
            let refusal = Refusal::from(&error);
            stored.into_iter().for_each(|submission| submission.refuse(refusal.clone()));
        }
    }
    Ok(())
}

async fn hand_on(appended: Appended, follow: &mpsc::Sender<News>) -> Result<(), mpsc::error::SendError<News>> {
    if appended.changes.is_empty() {
        return Ok(());
    }
    follow.send(News::Entry(LogEntry { position: appended.head.position, changes: appended.changes.into() })).await
}

fn verdict(outcome: Outcome, submission: &Submission) -> Verdict {
    match outcome {
        Outcome::Stored => Verdict::Accepted,
        Outcome::Duplicate => Verdict::Duplicate,
        Outcome::Superseded => Verdict::Superseded,
        Outcome::Deleted => Verdict::Refused(Refusal::Deleted),
        Outcome::Expired => {
            Verdict::Refused(Refusal::Expired { at: submission.event.expires_at().unwrap_or_default() })
        }
    }
}

async fn sweep_expired(
    store: &dyn Store,
    follow: &mpsc::Sender<News>,
    batch: usize,
) -> Result<(), mpsc::error::SendError<News>> {
    match store.sweep_expired(now(), batch).await {
        Ok(swept) => hand_on(swept, follow).await,
        Err(StoreError::Closed) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "expired events could not be swept; the next sweep tries again");
            Ok(())
        }
    }
}
