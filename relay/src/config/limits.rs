//! `[limits]`, `[queues]` and `[timeouts]`: what one client may ask for, how much may wait for it, and how long the
//! relay waits for it.

use super::values;
use serde::Deserialize;
use std::time::Duration;

/// `[limits]`: what one client may ask for. A reload changes all of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The largest message from a client.
    pub max_message_bytes: usize,
    /// The most subscriptions of one connection.
    pub max_subscriptions: usize,
    /// The most filters in one REQ or COUNT.
    pub max_filters: usize,
    /// The most values in one list of a filter; 0: what fits into a message.
    pub max_filter_values: usize,
    /// The most bytes that the filters of one REQ or COUNT may cost.
    pub max_req_bytes: usize,
    /// The most bytes that the filters of all subscriptions of one connection may hold.
    pub max_subscriptions_bytes: usize,
    /// How many stored events a filter without `limit` gets.
    pub default_limit: usize,
    /// The most stored events one filter gets.
    pub max_limit: usize,
    /// The most stored events that a filter gets beyond its limit, to complete a second (NIP-67); 0: none.
    pub boundary_overrun: usize,
    /// The most tags in one event.
    pub max_event_tags: u32,
    /// The most Unicode characters in an event's content.
    pub max_content_chars: u32,
    /// The greatest age of `created_at`; 0: any.
    pub max_age_seconds: u64,
    /// The greatest age of an ephemeral event's `created_at`; 0: any.
    pub max_ephemeral_age_seconds: u64,
    /// How far `created_at` may be in the future.
    pub max_ahead_seconds: u64,
    /// The proof of work that an event must show (NIP-13); 0: none.
    pub min_pow_bits: u8,
    /// The most connections; 0: what the limit on file descriptors allows.
    pub max_connections: usize,
    /// The most connections from one address; 0: off.
    pub max_connections_per_address: usize,
    /// Messages a second of one connection; 0: off.
    pub messages_per_second: u32,
    /// Messages one connection may send at once.
    pub messages_burst: u32,
    /// Events a second of one address; 0: off.
    pub events_per_second_per_address: u32,
    /// Events one address may publish at once.
    pub events_burst_per_address: u32,
}

/// `[queues]`: how much may wait in memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queues {
    /// The most answers that wait for one client.
    pub pending_replies_per_connection: usize,
    /// The most events that wait for one client.
    pub outbox_events: usize,
    /// The most bytes of events that wait for one client.
    pub outbox_bytes: usize,
    /// Bytes of recent changes kept in memory.
    pub ring_bytes: usize,
}

/// `[timeouts]`: how long the relay waits for a client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// From a connection's start to the end of its WebSocket handshake.
    #[serde(rename = "handshake_seconds", deserialize_with = "values::seconds")]
    pub handshake: Duration,
    /// For the headers of one HTTP request.
    #[serde(rename = "headers_seconds", deserialize_with = "values::seconds")]
    pub headers: Duration,
    /// For one message, from its first byte to its last.
    #[serde(rename = "message_seconds", deserialize_with = "values::seconds")]
    pub message: Duration,
    /// How long a client may be silent before it gets a ping; zero: no pings.
    #[serde(rename = "ping_interval_seconds", deserialize_with = "values::seconds")]
    pub ping_interval: Duration,
    /// How long a client may take to answer a ping.
    #[serde(rename = "pong_timeout_seconds", deserialize_with = "values::seconds")]
    pub pong_timeout: Duration,
    /// How long a client may read nothing while bytes wait for it.
    #[serde(rename = "write_stall_seconds", deserialize_with = "values::seconds")]
    pub write_stall: Duration,
    /// The time over which connections are closed when the relay stops; zero: all at once.
    #[serde(rename = "drain_seconds", deserialize_with = "values::seconds")]
    pub drain: Duration,
}
