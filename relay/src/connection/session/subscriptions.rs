//! A client's open subscriptions and its running queries.

use crate::connection::services::Services;
use crate::connection::settings::ConnectionSettings;
use crate::log::Log;
use crate::outbox::{Outbox, Subscription};
use crate::telemetry::{Metrics, Operation, Shed, Task};
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

/// Counts one query as running. Its end wakes the connection, which may wait for it before it reads on.
struct RunningQuery {
    count: Arc<AtomicUsize>,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    begun: Instant,
}

impl RunningQuery {
    fn start(count: &Arc<AtomicUsize>, outbox: &Arc<Outbox>, services: &Services) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        let metrics = services.metrics.clone();
        metrics.queries_active.increment(1);
        Self { count: count.clone(), outbox: outbox.clone(), metrics, begun: Instant::now() }
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.metrics.queries_active.decrement(1);
        self.outbox.wake();
    }
}

impl Subscriptions {
    /// How many queries run, those included that were aborted and have not stopped yet.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Checks that a subscription with these filters may be opened beside the others.
    pub(super) fn check_room(&mut self, filters: &[Filter], settings: &ConnectionSettings) -> Result<(), Refusal> {
        let wanted: usize = filters.iter().map(Filter::held_bytes).sum();
        self.check_open(wanted, settings).or_else(|_| {
            // Subscriptions that the relay closed itself are still in the map.
            self.open.retain(|_, (subscription, _)| !subscription.is_closed());
            self.check_open(wanted, settings)
        })
    }

    fn check_open(&self, wanted_bytes: usize, settings: &ConnectionSettings) -> Result<(), Refusal> {
        let (max, max_bytes) = (settings.max_subscriptions, settings.max_subscriptions_bytes);
        let held: usize = self.open.values().map(|(subscription, _)| subscription.held_bytes).sum();
        if self.open.len() >= max {
            Err(Refusal::TooManySubscriptions { max })
        } else if held.saturating_add(wanted_bytes) > max_bytes {
            Err(Refusal::SubscriptionsTooLarge { max_bytes })
        } else {
            Ok(())
        }
    }

    /// Opens a subscription, unless the connection may not hold its filters; a task of its own answers it.
    pub(super) fn open(
        &mut self,
        id: &SubscriptionId,
        filters: Vec<Filter>,
        outbox: &Arc<Outbox>,
        access: &Access,
        services: &Services,
    ) -> Result<(), Refusal> {
        let bytes = filters.iter().map(Filter::held_bytes).sum();
        let memory = outbox.memory().try_hold_filters(bytes).ok_or(Refusal::MemoryShare)?;
        let subscription = Subscription::with_memory(id.clone(), filters.into(), outbox.clone(), memory);
        let running = RunningQuery::start(&self.running, outbox, services);
        let (queries, access, limits) = (services.queries.clone(), access.clone(), services.settings.load().query);
        let asked = subscription.clone();
        let task = services.tasks.spawn(Task::Query, async move {
            queries.answer(&asked, &access, limits).await;
            running.metrics.query_latency.of(Operation::Req).record(running.begun.elapsed());
        });
        self.open.insert(id.clone(), (subscription, task.abort_handle()));
        Ok(())
    }

    /// Starts a task that answers a COUNT.
    pub(super) fn count(
        &mut self,
        id: SubscriptionId,
        filters: Vec<Filter>,
        outbox: &Arc<Outbox>,
        access: &Access,
        services: &Services,
    ) {
        self.counts.retain(|(_, task)| !task.is_finished());
        let running = RunningQuery::start(&self.running, outbox, services);
        let (queries, access, limits) = (services.queries.clone(), access.clone(), services.settings.load().query);
        let asked = id.clone();
        let task = services.tasks.spawn(Task::Query, async move {
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

    /// Ends the subscription of this id without a word. A COUNT of this id goes on: it has a reply of its own.
    pub(super) fn forget(&mut self, id: &SubscriptionId, log: &Log) {
        if let Some((subscription, task)) = self.open.remove(id) {
            log.forget(&subscription);
            task.abort();
        }
    }

    /// Ends every subscription with a CLOSED that says `why`. They stay in the map until the client knows: a client
    /// that reuses an id meanwhile gets no CLOSED under it.
    pub(super) fn end_all(&self, why: &Refusal, log: &Log) {
        for (subscription, task) in self.open.values() {
            log.close(subscription, why.clone());
            task.abort();
        }
    }

    /// Ends the subscription and the COUNTs of this id.
    pub(super) fn close(&mut self, id: &SubscriptionId, log: &Log) {
        self.forget(id, log);
        self.counts.retain(|(count_id, task)| {
            let ended = count_id == id;
            if ended {
                task.abort();
            }
            !ended && !task.is_finished()
        });
    }

    /// Ends every subscription and COUNT.
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
