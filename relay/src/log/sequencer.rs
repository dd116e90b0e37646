//! The sequencer: a reorder buffer. Entries come from the instance's own writer, from the bus in any order or not at
//! all, and from the shared log; they go to [`Log::apply`] in order. It has no clock and no socket: [`Sequencer::next`]
//! returns the next step, and the follower takes it. So the model of the protocol runs the same code.

use super::{EntryFate, Log};
use crate::store::{LogSlice, SharedHead};
use crate::telemetry::{EntrySource, Metrics};
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, EphemeralEvent, Epoch, Event, Head, LogEntry, Position};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The times that a follower waits.
#[derive(Debug, Clone, Copy)]
pub struct FollowTimings {
    /// How long a hole may stay before the log is read: its entry may still come over the bus. Zero: there is no bus,
    /// so every poll reads the log.
    pub hole: Duration,
    /// The interval of polls of the shared log's head.
    pub poll: Duration,
    /// The pause after a failed read of the shared log.
    pub retry: Duration,
}

/// The follower's next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read the shared log after this position, and give the answer to [`Sequencer::take`].
    Read(Position),
    /// Ask for the shared log's head, and give the answer to [`Sequencer::learn`].
    Ask,
    /// Do nothing until an entry comes, or until this moment.
    Wait(Instant),
}

/// The most entries that wait for an earlier one. Further ones are dropped, since the shared log has them.
const MAX_PENDING_ENTRIES: usize = 1_024;
/// The most bytes of event text in those entries.
const MAX_PENDING_BYTES: usize = 16 << 20;
/// The most ephemeral events that wait with one entry.
const MAX_ATTACHED: usize = 128;
/// The most entries of the own writer that wait until their epoch is known.
const MAX_UNKNOWN_EPOCH_ENTRIES: usize = 256;

/// Puts the log's entries in order.
pub struct Sequencer {
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    /// Entries of the present epoch that wait for an earlier one.
    pending: BTreeMap<Position, (EntrySource, LogEntry)>,
    pending_bytes: usize,
    /// The last position of the present epoch that is known to exist.
    target: Position,
    /// The local head after which an entry is missing, and since when.
    missing: Option<(Position, Instant)>,
    /// When the next poll is due.
    ask_at: Instant,
    /// When the next read is due; `None`: `hole` after `missing` began.
    retry_at: Option<Instant>,
    /// The shared log no longer reaches back to the local head.
    out_of_reach: bool,
    /// Entries of the own writer whose epoch this instance has not followed yet.
    unknown_epoch: Vec<(Epoch, LogEntry)>,
    /// Entries that failovers have cut off, oldest first, until [`take_cut_off`](Self::take_cut_off).
    cut_off: Vec<LogEntry>,
}

impl Sequencer {
    /// Continues after the local head of `log`. Nothing else may apply entries to `log`.
    pub fn new(log: Arc<Log>, metrics: Arc<Metrics>, now: Instant) -> Self {
        let target = log.head().position;
        Self {
            log,
            metrics,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            target,
            missing: None,
            ask_at: now,
            retry_at: None,
            out_of_reach: false,
            unknown_epoch: Vec::new(),
            cut_off: Vec::new(),
        }
    }

    /// The entries to submit again, oldest first: entries of past epochs that the present one lacks. Call it after
    /// every other call.
    pub fn take_cut_off(&mut self) -> Vec<LogEntry> {
        std::mem::take(&mut self.cut_off)
    }

    /// Takes an entry from the own writer or from the bus.
    pub fn offer(&mut self, source: EntrySource, epoch: Epoch, entry: LogEntry, now: Instant) {
        let fate = match ablated(Safeguard::Epochs) {
            true => EntryFate::InLog,
            false => self.log.fate(Head { epoch, position: entry.position }),
        };
        match fate {
            // Of the present epoch, or of an earlier one before the cut, where both have the same entry.
            EntryFate::InLog => {}
            // Of a new epoch: poll now, for the base of that epoch.
            EntryFate::UnknownEpoch => {
                self.ask_at = now;
                if source == EntrySource::Own && self.unknown_epoch.len() < MAX_UNKNOWN_EPOCH_ENTRIES {
                    self.unknown_epoch.push((epoch, entry));
                } else {
                    self.broadcast_attached(&entry);
                }
                return;
            }
            EntryFate::CutOff => {
                self.broadcast_attached(&entry);
                if source == EntrySource::Own {
                    // The client got its OK before this instance knew of the failover: the event must not be lost.
                    self.cut_off.push(entry);
                }
                return;
            }
            // Of a past epoch, and no client of this instance got an OK for it.
            EntryFate::Undecidable => {
                self.broadcast_attached(&entry);
                return;
            }
        }

        let head = self.log.head().position;
        if entry.position.0 > head.0.saturating_add(MAX_PENDING_ENTRIES as u64) {
            // Too far ahead to buffer, and perhaps a wrong position: poll the shared log, which has the entry if it
            // exists.
            self.ask_at = now;
            self.broadcast_attached(&entry);
            return;
        }

        self.target = self.target.max(entry.position);
        if entry.position > head {
            self.pending_bytes += text_bytes(&entry);
            if let Some((_, before)) = self.pending.insert(entry.position, (source, entry)) {
                self.pending_bytes -= text_bytes(&before);
                self.broadcast_attached(&before);
            }
        } else {
            // The entry was applied before, from the shared log.
            self.broadcast_attached(&entry);
        }

        self.apply_pending();
        while self.pending.len() > MAX_PENDING_ENTRIES || self.pending_bytes > MAX_PENDING_BYTES {
            let Some((_, (_, dropped))) = self.pending.pop_last() else { break };
            self.pending_bytes -= text_bytes(&dropped);
            self.broadcast_attached(&dropped);
        }
        self.note_missing(now);
    }

    /// Takes an ephemeral event that came after every entry that was offered so far: where an entry is pending, the
    /// event is delivered after the last of them.
    ///
    /// # Errors
    /// Gives the event back where no entry is pending, or the last one has too many events already.
    pub fn attach(&mut self, event: Arc<Event>) -> Result<(), Arc<Event>> {
        match self.pending.values_mut().next_back() {
            Some((_, entry)) if entry.ephemeral.len() < MAX_ATTACHED => {
                self.pending_bytes += event.text().len();
                entry.ephemeral.push(EphemeralEvent { before: entry.changes.len(), event });
                Ok(())
            }
            _ => Err(event),
        }
    }

    /// Takes the answer to [`Step::Ask`].
    pub fn learn(&mut self, head: SharedHead, now: Instant) {
        self.follow_epoch(head, now);
        if head.head.epoch == self.log.head().epoch {
            self.target = self.target.max(head.head.position);
        }
        self.note_missing(now);
    }

    /// Takes the answer to [`Step::Read`].
    pub fn take(&mut self, slice: LogSlice, now: Instant, timings: FollowTimings) {
        self.retry_at = None;
        let before = self.log.head();
        self.follow_epoch(slice.head, now);
        if slice.head.head.epoch == self.log.head().epoch {
            self.target = self.target.max(slice.head.head.position);
            if !slice.entries.is_empty() {
                self.metrics.hole_repairs.increment(1);
            }
            for entry in slice.entries {
                let missing = entry.position > self.log.head().position && !self.pending.contains_key(&entry.position);
                if missing {
                    self.pending_bytes += text_bytes(&entry);
                    self.pending.insert(entry.position, (EntrySource::Log, entry));
                }
            }
            self.apply_pending();
        }

        self.note_missing(now);
        if self.missing.is_some() {
            // After progress the next slice is read at once. An entry that the shared log does not have yet is asked
            // for later.
            let progress = self.log.head() != before;
            self.retry_at = Some(if progress { now } else { now + timings.retry });
        }
    }

    /// The step has failed: the shared log could not be asked or read.
    pub fn failed(&mut self, now: Instant, timings: FollowTimings) {
        self.ask_at = now + timings.retry;
        self.retry_at = Some(now + timings.retry);
    }

    /// The step has failed: the shared log no longer reaches back to the local head. The next answer to [`Step::Ask`]
    /// says where to go on.
    pub fn out_of_reach(&mut self, now: Instant) {
        self.out_of_reach = true;
        self.ask_at = now;
    }

    /// The next step. While a [`Step::Ask`] or a [`Step::Read`] is under way, the caller must not call this again
    /// before it has the answer.
    pub fn next(&mut self, now: Instant, timings: FollowTimings) -> Step {
        // The timings may have become shorter since the next poll was scheduled.
        self.ask_at = self.ask_at.min(now + timings.poll);
        if now >= self.ask_at && !ablated(Safeguard::Poll) {
            self.ask_at = now + timings.poll;
            let read = timings.hole.is_zero() && !self.out_of_reach;
            return if read { Step::Read(self.log.head().position) } else { Step::Ask };
        }

        let mut wake = self.ask_at;
        if let Some((_, since)) = self.missing.filter(|_| !self.out_of_reach && !ablated(Safeguard::Repair)) {
            let due = self.retry_at.unwrap_or(since + timings.hole);
            if now >= due {
                return Step::Read(self.log.head().position);
            }
            wake = wake.min(due);
        }
        Step::Wait(wake)
    }

    /// Positions that are known to exist and are not applied yet.
    pub fn behind(&self) -> u64 {
        self.target.0.saturating_sub(self.log.head().position.0)
    }

    fn follow_epoch(&mut self, to: SharedHead, now: Instant) {
        let head = self.log.head();
        let same = to.head.epoch == head.epoch;
        if same && !self.out_of_reach || !same && ablated(Safeguard::Epochs) {
            return;
        }
        if !same && self.log.knows(to.head.epoch) {
            // An old primary that was not fenced still answers.
            return;
        }
        if same && to.head.position < head.position {
            // The answer is older than what has been applied since.
            return;
        }

        self.missing = None;
        if to.previous == head.epoch && !same {
            self.metrics.epochs.increment(1);
            self.cut_off.extend(self.log.switch_epoch(to));
            // Pending entries up to the base are part of the new epoch, and the next failover may cut them off. Pending
            // entries beyond the base were cut off now. In both cases no other instance may have them.
            let beyond = self.pending.split_off(&to.base.next());
            self.cut_off.extend(beyond.into_values().map(|(_, entry)| entry));
        } else {
            tracing::warn!(
                from = head.position.0,
                to = to.head.position.0,
                "the log continues beyond what this instance could follow: subscriptions are closed"
            );
            self.log.restart(to);
            self.pending.clear();
        }

        self.pending_bytes = self.pending.values().map(|(_, entry)| text_bytes(entry)).sum();
        self.out_of_reach = false;
        self.target =
            self.pending.last_key_value().map_or(Position(0), |(last, _)| *last).max(self.log.head().position);
        for (epoch, entry) in std::mem::take(&mut self.unknown_epoch) {
            self.offer(EntrySource::Own, epoch, entry, now);
        }
    }

    fn apply_pending(&mut self) {
        while let Some(first) = self.pending.first_entry() {
            let next = self.log.head().position.next();
            if *first.key() > next && !ablated(Safeguard::Order) {
                return;
            }
            let (source, mut entry) = first.remove();
            self.pending_bytes -= text_bytes(&entry);
            if ablated(Safeguard::Order) {
                entry.position = next;
            }
            // `Log::apply` takes the next entry, and ignores one that it has applied before.
            if entry.position == next && self.log.apply(&entry).is_ok() {
                self.metrics.entries.of(source).increment(1);
            }
        }
    }

    /// Delivers the ephemeral events of an entry that is not applied now. It is applied from another copy, which may
    /// lack these events, or later, when they would be too late, or never.
    fn broadcast_attached(&self, entry: &LogEntry) {
        for EphemeralEvent { event, .. } in &entry.ephemeral {
            self.log.broadcast(event.clone());
        }
    }

    fn note_missing(&mut self, now: Instant) {
        self.metrics.log_behind.set(self.behind() as f64);
        let head = self.log.head().position;
        if self.target <= head {
            self.missing = None;
            self.retry_at = None;
        } else if self.missing.is_none_or(|(after, _)| after != head) {
            self.missing = Some((head, now));
        }
    }
}

fn text_bytes(entry: &LogEntry) -> usize {
    let bytes = |change: &Change| match change {
        Change::Inserted(insertion) => insertion.event.text().len(),
        Change::Removed(removal) => removal.event.text().len(),
    };
    let ephemeral = entry.ephemeral.iter().map(|ephemeral| ephemeral.event.text().len());
    entry.changes.iter().map(bytes).chain(ephemeral).sum()
}
