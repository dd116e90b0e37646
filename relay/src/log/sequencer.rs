//! The follower's judgement, without its clock and its sockets: entries come from the own writer, from the bus in any
//! order or not at all, and from the shared log; out of it go entries in order. What to do next is a question to
//! [`Sequencer::next`]; the follower does it, and the model of the protocol drives the same code.

use super::{EntryFate, Log};
use crate::store::{LogSlice, SharedHead};
use crate::telemetry::{EntrySource, Metrics};
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Change, Epoch, Head, LogEntry, Position};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a follower waits for what.
#[derive(Debug, Clone, Copy)]
pub struct FollowTimings {
    /// For an entry that may still be on its way over the bus, before it is read from the log. Zero: there is no bus,
    /// so every poll reads at once.
    pub hole: Duration,
    /// Between two questions where the log stands.
    pub poll: Duration,
    /// After the shared log could not be read.
    pub retry: Duration,
}

/// What a follower is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read the shared log after this position; the answer goes to [`Sequencer::take`].
    Read(Position),
    /// Ask where the shared log stands; the answer goes to [`Sequencer::learn`].
    Ask,
    /// Nothing, until something comes or this moment has.
    Wait(Instant),
}

/// The most entries that wait for one before them. More are dropped: the log has them.
const MAX_PENDING_ENTRIES: usize = 1_024;
/// The most bytes of event text that they may hold.
const MAX_PENDING_BYTES: usize = 16 << 20;
/// The most own entries that wait for their epoch to become known.
const MAX_UNKNOWN_EPOCH_ENTRIES: usize = 256;

/// Puts the log's entries in order.
pub struct Sequencer {
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    /// Entries of the present epoch that came before their time.
    pending: BTreeMap<Position, (EntrySource, LogEntry)>,
    pending_bytes: usize,
    /// The last position that is known to exist in the present epoch.
    target: Position,
    /// The local head after which something is missing, and since when.
    missing: Option<(Position, Instant)>,
    /// When the next question is due.
    ask_at: Instant,
    /// When the next read is due, where that is known better than from `missing`.
    retry_at: Option<Instant>,
    /// The shared log no longer reaches back to the local head.
    out_of_reach: bool,
    /// Own entries of an epoch that nobody here has heard of yet.
    unknown_epoch: Vec<(Epoch, LogEntry)>,
    /// What a failover has cut off, oldest first, until somebody takes it.
    cut_off: Vec<LogEntry>,
}

impl Sequencer {
    /// Continues after the local head of `log`. The only one that applies to it.
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

    /// What is to be submitted again, oldest first: entries of an epoch that is over which the new one lacks. To be
    /// asked after every other call.
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
            // Of the present epoch, or of an earlier one and before the cut: then it is the same in both.
            EntryFate::InLog => {}
            // Of a new epoch: the log will tell how it began.
            EntryFate::UnknownEpoch => {
                self.ask_at = now;
                if source == EntrySource::Own && self.unknown_epoch.len() < MAX_UNKNOWN_EPOCH_ENTRIES {
                    self.unknown_epoch.push((epoch, entry));
                }
                return;
            }
            EntryFate::CutOff => {
                if source == EntrySource::Own {
                    // Its client was told "stored" before anybody here knew of the failover.
                    self.cut_off.push(entry);
                }
                return;
            }
            // Of an epoch that is over: nothing to us.
            EntryFate::Undecidable => return,
        }
        let head = self.log.head().position;
        if entry.position.0 > head.0.saturating_add(MAX_PENDING_ENTRIES as u64) {
            // So far ahead that the log must say whether it is true; if so, it is read from there.
            self.ask_at = now;
            return;
        }
        self.target = self.target.max(entry.position);
        if entry.position > head {
            self.pending_bytes += text_bytes(&entry);
            if let Some((_, before)) = self.pending.insert(entry.position, (source, entry)) {
                self.pending_bytes -= text_bytes(&before);
            }
        }
        self.apply_pending();
        while self.pending.len() > MAX_PENDING_ENTRIES || self.pending_bytes > MAX_PENDING_BYTES {
            let Some((_, (_, dropped))) = self.pending.pop_last() else { break };
            self.pending_bytes -= text_bytes(&dropped);
        }
        self.note_missing(now);
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
            // A long way is read at one go; what the log itself does not have yet is not asked for again at once.
            let progress = self.log.head() != before;
            self.retry_at = Some(if progress { now } else { now + timings.retry });
        }
    }

    /// The shared log could not be asked or read.
    pub fn failed(&mut self, now: Instant, timings: FollowTimings) {
        self.ask_at = now + timings.retry;
        self.retry_at = Some(now + timings.retry);
    }

    /// The shared log no longer reaches back to the local head: the next answer to [`Step::Ask`] is where to go on.
    pub fn out_of_reach(&mut self, now: Instant) {
        self.out_of_reach = true;
        self.ask_at = now;
    }

    /// What to do now. A caller that has begun an [`Step::Ask`] or a [`Step::Read`] asks again once it has the answer.
    pub fn next(&mut self, now: Instant, timings: FollowTimings) -> Step {
        // Whoever polls faster from now on need not wait for the slower poll to be due.
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

    /// How many positions are known to exist and were not applied yet.
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
            // The answer is older than what has come since.
            return;
        }
        self.missing = None;
        if to.previous == head.epoch && !same {
            self.metrics.epochs.increment(1);
            self.cut_off.extend(self.log.switch_epoch(to));
            // What waited for an entry before it: up to the base it is part of the new epoch too, and the next failover
            // may cut it off; beyond, it was cut off now. Either way it may be known to nobody else.
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
            // The log takes it: it is the next, or one that is there already.
            if entry.position == next && self.log.apply(&entry).is_ok() {
                self.metrics.entries.of(source).increment(1);
            }
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
    entry.changes.iter().map(bytes).sum()
}
