//! The figures of one thread: of the current second, and of the whole run.

use crate::bench::Faults;
use crate::stats::Latency;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The most different error texts that are kept; further ones count together.
const MAX_WORDS: usize = 100;
const MAX_WORD_CHARS: usize = 160;

/// Counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events sent.
    pub sent: u64,
    /// OKs with `true`.
    pub accepted: u64,
    /// Events delivered, live or as stored events, each once.
    pub delivered: u64,
    /// Questions asked.
    pub asked: u64,
    /// Questions answered.
    pub answered: u64,
    /// Rows of those answers.
    pub rows: u64,
    /// Messages received, of any kind.
    pub received: u64,
    /// Connections that were opened again.
    pub reconnected: u64,
    /// Errors: refusals, broken connections, NOTICEs and the like.
    pub errors: u64,
}

impl Counts {
    /// Adds another thread's counters.
    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.asked += other.asked;
        self.answered += other.answered;
        self.rows += other.rows;
        self.received += other.received;
        self.reconnected += other.reconnected;
        self.errors += other.errors;
    }
}

/// The three latencies that a report shows second by second.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies {
    /// From the time at which the event was due to its reading by a subscriber.
    pub(super) delivery: Latency,
    /// From the time at which the event was due to its OK.
    pub(super) ok: Latency,
    /// From the time at which the question was due to its EOSE or COUNT.
    pub(super) query: Latency,
}

impl Latencies {
    pub(super) fn merge(&mut self, other: &Self) {
        self.delivery.merge(&other.delivery);
        self.ok.merge(&other.ok);
        self.query.merge(&other.query);
    }
}

/// One second of one thread.
#[derive(Debug, Default)]
pub(super) struct Tick {
    pub(super) second: usize,
    pub(super) counts: Counts,
    pub(super) latencies: Latencies,
    /// CPU time of the thread.
    pub(super) cpu: Duration,
    /// Connections with all their subscriptions open.
    pub(super) live: usize,
    pub(super) thread: usize,
}

/// One thread's figures.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) tick: Tick,
    /// Latencies of deliveries at another URL than that of the publisher.
    pub(super) across: Latency,
    pub(super) connect: Latency,
    /// From the order to reconnect to the last EOSE of the new connection.
    pub(super) reconnect: Latency,
    /// How late events and questions were sent, from when they were due.
    pub(super) lag: Latency,
    /// Events and questions that waited because no connection was open or had room.
    pub(super) blocked: u64,
    /// The latencies of each class of questions.
    pub(super) classes: Vec<Latency>,
    pub(super) errors: Faults,
}

impl Recorder {
    pub(super) fn new(classes: usize) -> Self {
        Self {
            tick: Tick::default(),
            across: Latency::new(),
            connect: Latency::new(),
            reconnect: Latency::new(),
            lag: Latency::new(),
            blocked: 0,
            classes: vec![Latency::new(); classes],
            errors: Faults::default(),
        }
    }

    /// Counts an error by its text.
    pub(super) fn error(&mut self, words: &str) {
        self.tick.counts.errors += 1;
        let words = words.chars().take(MAX_WORD_CHARS).collect::<String>();
        let known = self.errors.0.len() < MAX_WORDS || self.errors.0.contains_key(&words);
        self.errors.add(if known { &words } else { "others" }, 1);
    }

    /// Takes the figures of the second that has ended.
    pub(super) fn take_tick(&mut self) -> Tick {
        std::mem::take(&mut self.tick)
    }
}
