//! A client's open subscriptions and its queries under way.

use crate::connection::Services;
use crate::log::Log;
use crate::outbox::{Outbox, Subscription};
use crate::telemetry::{Metrics, Operation, Shed};
use crate::types::{Access, Filter, Refusal, Reply, SubscriptionId};
use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::task::AbortHandle;

/// The REQs and COUNTs of one connection.
#[derive(Default)]
pub(super) struct Subscriptions {
    open: HashMap<SubscriptionId, (Arc<Subscription>, AbortHandle)>,
    counts: Vec<(SubscriptionId, AbortHandle)>,
    running: Arc<AtomicUsize>,
}

/// Counts one query as under way; wakes the connection when it is over, for it may be waiting to read on.
struct Running {
    count: Arc<AtomicUsize>,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    begun: Instant,
}

impl Running {
    fn start(count: &Arc<AtomicUsize>, outbox: &Arc<Outbox>, services: &Services) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        let metrics = services.metrics.clone();
        metrics.queries_active.increment(1);
        Self { count: count.clone(), outbox: outbox.clone(), metrics, begun: Instant::now() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.metrics.queries_active.decrement(1);
        self.outbox.wake();
    }
}

impl Subscriptions {
    /// How many queries are under way, those included that were aborted but have not noticed yet.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Says whether one more subscription may be opened.
    pub(super) fn check_room(&mut self, max: usize) -> Result<(), Refusal> {
        if self.open.len() >= max {
            // Those that the relay ended itself still stand here.
            self.open.retain(|_, (subscription, _)| !subscription.is_closed());
        }
        if self.open.len() >= max { Err(Refusal::TooManySubscriptions { max }) } else { Ok(()) }
    }

    /// Opens a subscription and answers it in a task of its own.
    pub(super) fn open(
        &mut self,
        id: SubscriptionId,
        filters: Vec<Filter>,
        outbox: &Arc<Outbox>,
        access: &Access,
        services: &Services,
    ) {
        let subscription = Subscription::new(id.clone(), filters.into(), outbox.clone());
        let running = Running::start(&self.running, outbox, services);
        let (queries, access, limits) = (services.queries.clone(), access.clone(), services.settings.load().query);
        let asked = subscription.clone();
        let task = tokio::spawn(async move {
            queries.answer(&asked, &access, limits).await;
            running.metrics.query_latency.of(Operation::Req).record(running.begun.elapsed());
        });
        self.open.insert(id, (subscription, task.abort_handle()));
    }

    /// Answers a COUNT in a task of its own.
    pub(super) fn count(
        &mut self,
        id: SubscriptionId,
        filters: Vec<Filter>,
        outbox: &Arc<Outbox>,
        access: &Access,
        services: &Services,
    ) {
        self.counts.retain(|(_, task)| !task.is_finished());
        let running = Running::start(&self.running, outbox, services);
        let (queries, access, limits) = (services.queries.clone(), access.clone(), services.settings.load().query);
        let asked = id.clone();
        let task = tokio::spawn(async move {
            let reply = match queries.count(&filters, &access, limits).await {
                Ok(count) => Reply::Count(asked, count),
                Err(error) => {
                    let refusal = Refusal::from(&error);
                    running.metrics.refusals.of(&refusal).increment(1);
                    if refusal == Refusal::Overloaded {
                        running.metrics.shed.of(Shed::Count).increment(1);
                    }
                    Reply::Closed(asked, refusal)
                }
            };
            running.metrics.query_latency.of(Operation::Count).record(running.begun.elapsed());
            running.outbox.reply(reply);
        });
        self.counts.push((id, task.abort_handle()));
    }

    /// Forgets the subscription of this id. A COUNT goes on: it has an answer of its own.
    pub(super) fn forget(&mut self, id: &SubscriptionId, log: &Log) {
        if let Some((subscription, task)) = self.open.remove(id) {
            log.forget(&subscription);
            task.abort();
        }
    }

    /// Ends every subscription with a CLOSED that says `why`. They stay here until the client knows: one that gives an
    /// id to a new subscription meanwhile is owed no CLOSED under it.
    pub(super) fn end_all(&self, why: &Refusal, log: &Log) {
        for (subscription, task) in self.open.values() {
            log.close(subscription, why.clone());
            task.abort();
        }
    }

    /// Ends whatever has this id.
    pub(super) fn close(&mut self, id: &SubscriptionId, log: &Log) {
        self.forget(id, log);
        self.counts.retain(|(asked, task)| {
            let ended = asked == id;
            if ended {
                task.abort();
            }
            !ended && !task.is_finished()
        });
    }

    /// Ends everything.
    pub(super) fn close_all(&mut self, log: &Log) {
        for (_, (subscription, task)) in self.open.drain() {
            log.forget(&subscription);
            task.abort();
        }
        for (_, task) in self.counts.drain(..) {
            task.abort();
        }
    }
}
