//! One event on its way, with the way back to its sender.

use crate::memory::Reservation;
use crate::outbox::Outbox;
use crate::telemetry::{Metrics, Operation, Shed, Stage, Trace};
use crate::types::{Access, Event, Refusal, Reply, ReplyId, Verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// An event that a client handed in. It is answered exactly once.
pub struct Submission {
    /// The event; its id was checked, its signature not yet.
    pub event: Arc<Event>,
    /// The rights of the client that hands it in, for policy.
    pub access: Access,
    /// The outbox that the OK goes to.
    pub outbox: Arc<Outbox>,
    /// The metrics that count it.
    pub metrics: Arc<Metrics>,
    /// When it was read from the socket.
    pub received_at: Instant,
    /// Its measurement, if it is one of those that are measured stage by stage.
    pub trace: Option<Box<Trace>>,
    /// Counts it as under way until it is answered.
    pub in_flight: InFlight,
}

impl Submission {
    /// Marks the end of a stage.
    pub(super) fn passed(&mut self, stage: Stage) {
        if let Some(trace) = &mut self.trace {
            trace.passed(stage);
        }
    }

    /// Answers the event: its OK goes to the outbox of its connection.
    pub fn answer(self, verdict: Verdict) {
        if let Some(trace) = self.trace {
            trace.finish(&self.metrics.stages);
        }
        self.metrics.events.of(&verdict).increment(1);
        self.metrics.query_latency.of(Operation::Event).record(self.received_at.elapsed());
        match &verdict {
            Verdict::Accepted => self.metrics.accepted.of(self.event.kind().class()).increment(1),
            Verdict::Duplicate => {}
            Verdict::Refused(refusal) => {
                self.metrics.refusals.of(refusal).increment(1);
                if *refusal == Refusal::Overloaded {
                    self.metrics.shed.of(Shed::Event).increment(1);
                }
            }
        }
        self.metrics.events_per_second.increment();
        let Self { event, outbox, in_flight, .. } = self;
        outbox.reply_then(Reply::Ok { id: ReplyId::Id(event.id()), verdict }, || drop(in_flight));
    }

    /// Answers the event with a refusal.
    pub fn refuse(self, refusal: Refusal) {
        self.answer(Verdict::Refused(refusal));
    }
}

/// A count of what one connection has under way; each guard counts for one.
#[derive(Debug)]
pub struct InFlight {
    count: Arc<AtomicUsize>,
    /// The memory that the event's message was counted with, where it is large: until the event is answered.
    _memory: Option<Reservation>,
}

impl InFlight {
    /// Counts one more.
    pub fn start(count: &Arc<AtomicUsize>) -> Self {
        Self::with_memory(count, None)
    }

    /// Counts one more, whose message `memory` counts.
    pub fn with_memory(count: &Arc<AtomicUsize>, memory: Option<Reservation>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self { count: count.clone(), _memory: memory }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}
