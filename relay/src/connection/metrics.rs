//! What connections count. The app connects the handles to its catalogue; by default they lead nowhere.

use super::CloseReason;
use crate::message::ClientMessage;
use crate::types::Reply;
use metrics::{Counter, Gauge, Histogram};
use std::fmt;

/// The handles.
#[derive(Clone)]
pub struct ConnectionMetrics {
    /// Connections that are open now, from their acceptance on.
    pub active: Gauge,
    /// Connections that became WebSockets.
    pub accepted: Counter,
    /// Connections that were refused because every place was taken.
    pub refused_full: Counter,
    /// Connections that were refused because their address has too many.
    pub refused_address: Counter,
    /// Connections that were refused because the relay is draining.
    pub refused_draining: Counter,
    /// Connections that were refused for want of a PROXY header from a trusted network.
    pub refused_proxy: Counter,
    /// Times that accepting failed, most of all for want of file descriptors.
    pub accept_failures: Counter,
    /// WebSockets that ended, by [`CloseReason::index`].
    pub closed: [Counter; CloseReason::ALL.len()],
    /// Messages received, by type: EVENT, REQ, COUNT, CLOSE, AUTH, and what could not be read.
    pub messages: [Counter; 6],
    /// Messages that were refused because they came too fast.
    pub rate_limited: Counter,
    /// Events sent.
    pub events_sent: Counter,
    /// Other messages sent.
    pub replies_sent: Counter,
    /// Bytes received on WebSockets that ended.
    pub received_bytes: Counter,
    /// Bytes sent on WebSockets that ended.
    pub sent_bytes: Counter,
    /// Seconds from a REQ to its EOSE or CLOSED.
    pub req_latency: Histogram,
    /// Seconds from a COUNT to its answer.
    pub count_latency: Histogram,
}

impl ConnectionMetrics {
    pub(super) fn count_message(&self, parsed: &Result<ClientMessage, Reply>) {
        let [event, req, count, close, auth, invalid] = &self.messages;
        let counter = match parsed {
            Ok(ClientMessage::Event(_)) => event,
            Ok(ClientMessage::Req(..)) => req,
            Ok(ClientMessage::Count(..)) => count,
            Ok(ClientMessage::Close(_)) => close,
            Ok(ClientMessage::Auth(_)) => auth,
            Err(_) => invalid,
        };
        counter.increment(1);
    }

    pub(super) fn count_end(&self, reason: CloseReason, bytes_in: u64, bytes_out: u64) {
        self.received_bytes.increment(bytes_in);
        self.sent_bytes.increment(bytes_out);
        if let Some(counter) = self.closed.get(reason.index()) {
            counter.increment(1);
        }
    }
}

impl Default for ConnectionMetrics {
    fn default() -> Self {
        Self {
            active: Gauge::noop(),
            accepted: Counter::noop(),
            refused_full: Counter::noop(),
            refused_address: Counter::noop(),
            refused_draining: Counter::noop(),
            refused_proxy: Counter::noop(),
            accept_failures: Counter::noop(),
            closed: std::array::from_fn(|_| Counter::noop()),
            messages: std::array::from_fn(|_| Counter::noop()),
            rate_limited: Counter::noop(),
            events_sent: Counter::noop(),
            replies_sent: Counter::noop(),
            received_bytes: Counter::noop(),
            sent_bytes: Counter::noop(),
            req_latency: Histogram::noop(),
            count_latency: Histogram::noop(),
        }
    }
}

impl fmt::Debug for ConnectionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionMetrics").finish_non_exhaustive()
    }
}
