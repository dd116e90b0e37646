//! One thread of the load: it follows the phases of the run until the phase is `Stop`.

use super::Totals;
use super::recorder::{Recorder, Tick};
use super::schedule::Schedule;
use super::session;
use super::side_queries;
use super::timer::Timer;
use super::worker::{LoadPhase, LoadShared, Worker};
use crate::client::ClientError;
use crate::stats::Latency;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

/// How often a thread that has nothing to send looks at its connections.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a thread has found.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) totals: Totals,
    pub(super) recorder: Recorder,
    /// Why the search for stored events failed, where it did.
    pub(super) check_failed: Option<String>,
}

/// Runs one thread's part until the phase is `Stop`.
pub(super) fn work(
    shared: Arc<LoadShared>,
    thread: usize,
    phase: watch::Receiver<LoadPhase>,
    ticks: mpsc::Sender<Tick>,
) -> std::io::Result<Findings> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let worker = Rc::new(Worker::new(shared, thread, phase));
    for peer in &worker.peers {
        local.spawn_local(session::keep_connected(worker.clone(), peer.index));
    }
    let check_failed = local.block_on(&runtime, worker.clone().main(ticks))?;
    drop(local);
    drop(runtime);
    let mut recorder = Recorder::new(0);
    std::mem::swap(&mut recorder, &mut worker.recorder.borrow_mut());
    let totals = worker.ledger.borrow().totals;
    Ok(Findings { totals, recorder, check_failed })
}

impl Worker {
    async fn main(self: Rc<Self>, ticks: mpsc::Sender<Tick>) -> std::io::Result<Option<String>> {
        let timer = Timer::new()?;
        let mut phase = self.phase.clone();
        let mut schedule = Schedule::new(&self);
        let mut check_failed = None;
        loop {
            let now = *phase.borrow_and_update();
            match now {
                LoadPhase::Connect => self.look(),
                LoadPhase::Run(start) => {
                    schedule.run(&self, start, &timer, &mut phase, &ticks).await?;
                    continue;
                }
                LoadPhase::Drain => {
                    session::resubscribe_all(&self);
                    self.tick(usize::MAX, &ticks);
                    let left = self.ledger.borrow().outstanding() + self.questions_left();
                    self.gauge().outstanding.store(left + 1, Ordering::Release);
                }
                LoadPhase::Warm => {
                    let warmed = self.warm().await;
                    warmed.unwrap_or_else(|error| self.recorder.borrow_mut().error(&format!("warming: {error}")));
                    self.done();
                    let _ = phase.changed().await;
                    continue;
                }
                LoadPhase::Check => {
                    session::resubscribe_all(&self);
                    self.tick(usize::MAX, &ticks);
                    self.ledger.borrow_mut().totals.questions_unanswered = self.questions_left();
                    self.ledger.borrow_mut().settle(0, true);
                    if self.shared.options.check_stored {
                        check_failed = self.check().await.err().map(|error| error.to_string());
                    }
                    self.done();
                    let _ = phase.changed().await;
                    continue;
                }
                LoadPhase::Stop => return Ok(check_failed),
            }

            tokio::select! {
                waited = timer.until(Instant::now() + LOOK_EVERY) => waited?,
                changed = phase.changed() => if changed.is_err() { return Ok(check_failed) },
            }
        }
    }

    async fn warm(&self) -> Result<(), ClientError> {
        let Some(peer) = self.peers.first() else { return Ok(()) };
        let mine = self.shared.questions.iter().skip(self.thread).step_by(self.shared.options.threads);
        let mut client = self.connect(peer).await?;
        side_queries::ask_all(&mut client, &self.scratch, mine.map(|(_, question)| question.clone()), |_| ()).await
    }

    async fn check(&self) -> Result<(), ClientError> {
        let kept = self.ledger.borrow_mut().take_kept();
        let Some(peer) = self.peers.first().filter(|_| !kept.is_empty()) else { return Ok(()) };
        self.ledger.borrow_mut().totals.looked_for = kept.len() as u64;
        let mut client = self.connect(peer).await?;
        let key = |author: u32| self.shared.keys[author as usize].clone();
        // Replayed events have their original dates.
        let since = if self.shared.dated { self.shared.unix } else { 0 };
        let missing = side_queries::missing(&mut client, &self.scratch, &kept, (since, key)).await?;
        self.ledger.borrow_mut().totals.not_stored = missing;
        Ok(())
    }
}

/// Merges the latencies of each class of questions.
pub(super) fn merge_classes(into: &mut [Latency], from: &[Latency]) {
    into.iter_mut().zip(from).for_each(|(into, from)| into.merge(from));
}
