//! What connections count. The app connects the handles to its catalogue; by default they lead nowhere.

use super::CloseReason;
use metrics::{Counter, Gauge};
use std::fmt;

/// The handles.
#[derive(Clone)]
pub struct ConnectionMetrics {
    /// Connections that are open now, from their acceptance on.
    pub open: Gauge,
    /// WebSockets that were opened.
    pub opened: Counter,
    /// Connections that were refused because all places were taken, or because the relay is draining.
    pub refused_full: Counter,
    /// Connections that were refused because their address has too many.
    pub refused_address: Counter,
    /// Times that accepting failed, most of all for want of file descriptors.
    pub accept_failures: Counter,
    /// Messages received.
    pub messages_received: Counter,
    /// Messages that were refused because they came too fast.
    pub rate_limited: Counter,
    /// Events sent.
    pub events_sent: Counter,
    /// Other messages sent.
    pub replies_sent: Counter,
    /// Bytes received on WebSockets.
    pub bytes_received: Counter,
    /// Bytes sent on WebSockets.
    pub bytes_sent: Counter,
    /// WebSockets that ended, by [`CloseReason::index`].
    pub closed: [Counter; CloseReason::ALL.len()],
}

impl Default for ConnectionMetrics {
    fn default() -> Self {
        Self {
            open: Gauge::noop(),
            opened: Counter::noop(),
            refused_full: Counter::noop(),
            refused_address: Counter::noop(),
            accept_failures: Counter::noop(),
            messages_received: Counter::noop(),
            rate_limited: Counter::noop(),
            events_sent: Counter::noop(),
            replies_sent: Counter::noop(),
            bytes_received: Counter::noop(),
            bytes_sent: Counter::noop(),
            closed: std::array::from_fn(|_| Counter::noop()),
        }
    }
}

impl fmt::Debug for ConnectionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionMetrics").finish_non_exhaustive()
    }
}
