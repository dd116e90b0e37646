//! What all connections of one listener share.

use super::listening::refusals::Refusals;
use super::listening::slots::Slots;
use super::rate::EventRateLimiter;
use super::services::Services;
use crate::telemetry::{ConnectionOutcome, Shed};
use std::net::IpAddr;

/// The services of the relay, and what the listener counts over all its connections.
pub(super) struct ListenerContext {
    pub(super) services: Services,
    pub(super) slots: Slots,
    pub(super) event_rate: EventRateLimiter,
    refusals: Refusals,
}

impl ListenerContext {
    pub(super) fn new(services: Services) -> Self {
        Self { services, slots: Slots::new(), event_rate: EventRateLimiter::default(), refusals: Refusals::default() }
    }

    /// Counts a connection that is refused. Logs it too, unless the relay is draining.
    pub(super) fn refuse(&self, address: IpAddr, outcome: ConnectionOutcome) {
        self.services.metrics.connections.of(outcome).increment(1);
        if outcome != ConnectionOutcome::Draining {
            self.refusals.note(address, outcome);
        }
        if matches!(outcome, ConnectionOutcome::Full | ConnectionOutcome::AddressFull) {
            self.services.metrics.shed.of(Shed::Connection).increment(1);
        }
    }
}
