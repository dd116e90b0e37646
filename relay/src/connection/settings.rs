//! What bounds a client's life. The app fills this from its configuration and may swap it while the relay runs.

use crate::config::Config;
use crate::message::ParseLimits;
use crate::outbox::OutboxLimits;
use crate::policy::RelayUrl;
use crate::query::QueryLimits;
use crate::types::PrivateKinds;
use ipnet::IpNet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// The bounds of connections. Each message reads them again, so a swap takes effect at once, except for the fields that
/// say that they are fixed when a connection begins.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// The relay's own addresses, one of which clients name when they authenticate (NIP-42). Empty: the address that
    /// the client's `Host` header names, where it can be no other relay's.
    pub public_urls: Vec<RelayUrl>,
    /// The first of them as the operator writes it, for people; empty where none is set.
    pub shown_url: Box<str>,
    /// The kinds that only their recipients, or only their author, may read.
    pub private_kinds: PrivateKinds,
    /// The largest message that is served. One up to twice as large is answered with a refusal, a still larger one
    /// ends the connection. Settled when a connection begins.
    pub max_message_bytes: usize,
    /// The most connections at the same time, those in their handshake included.
    pub max_connections: usize,
    /// The most connections from one address (or one IPv6 /64) at the same time; 0: any number.
    pub max_connections_per_address: usize,
    /// The most open subscriptions of one connection.
    pub max_subscriptions: usize,
    /// The most bytes that the filters of all subscriptions of one connection may hold.
    pub max_subscriptions_bytes: usize,
    /// The most REQs and COUNTs of one connection that run at the same time; at the limit no message is read from it.
    pub max_running_queries: usize,
    /// The most replies owed to one connection, in work or queued; at the limit no message is read from it until it
    /// takes some.
    pub max_pending_replies: usize,
    /// How many events may wait for one connection. Settled when a connection begins.
    pub outbox: OutboxLimits,
    /// How queries are bounded.
    pub query: QueryLimits,
    /// How much one message may ask for.
    pub parse: ParseLimits,
    /// How often one connection may send a message; `None`: no limit.
    pub messages: Option<RateLimit>,
    /// How often one address (or one IPv6 /64) may send an event; `None`: no limit.
    pub events_per_address: Option<RateLimit>,
    /// The time from accepting a connection to the end of its WebSocket handshake.
    pub handshake_timeout: Duration,
    /// The time for the headers of the HTTP request.
    pub header_timeout: Duration,
    /// The time for one message, from its first byte to its last.
    pub message_timeout: Duration,
    /// How long a client may be silent before it gets a ping; `None`: no pings.
    pub ping_interval: Option<Duration>,
    /// How long the client may send nothing after a ping.
    pub pong_timeout: Duration,
    /// How long a client may take no byte while some are pending.
    pub write_stall: Duration,
    /// The networks of the operator's proxies, which are believed about a client's address.
    pub trusted_networks: Vec<IpNet>,
    /// Every connection begins with a PROXY protocol header, version 2, and comes from a trusted network.
    pub proxy_protocol: bool,
}

/// A token bucket: a sustained rate, and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The sustained rate.
    pub per_second: NonZeroU32,
    /// How many may come at once after a pause.
    pub burst: NonZeroU32,
}

/// NIP-01's limit.
const MAX_SUBSCRIPTION_ID_CHARS: usize = 64;

/// The most queries of one connection at the same time. More would only wait for each other: the store has a few
/// connections for all clients.
const MAX_RUNNING_QUERIES: usize = 16;

/// File descriptors that connections leave to the rest: the store's files, the admin listener, the log.
const SPARE_DESCRIPTORS: u64 = 128;

impl RateLimit {
    /// `None` where `per_second` is 0: no limit. A `burst` of 0 counts as 1.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        Some(Self { per_second, burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN) })
    }
}

/// How many connections the limit on file descriptors leaves room for.
fn affordable_connections() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors.saturating_sub(SPARE_DESCRIPTORS).max(1)).unwrap_or(usize::MAX)
}

impl ConnectionSettings {
    /// What a configuration says about connections.
    pub fn new(config: &Config) -> Self {
        let Config { limits, protocol, queues, timeouts, proxy, .. } = config;
        Self {
            public_urls: config.own_urls().filter_map(|url| RelayUrl::parse(url).ok()).collect(),
            shown_url: config.own_urls().next().unwrap_or_default().into(),
            private_kinds: config.access.restricted_kinds(),
            max_message_bytes: limits.max_message_bytes,
            max_connections: match limits.max_connections {
                0 => affordable_connections(),
                max => max,
            },
            max_connections_per_address: limits.max_connections_per_address,
            max_subscriptions: limits.max_subscriptions,
            max_subscriptions_bytes: limits.max_subscriptions_bytes,
            max_running_queries: MAX_RUNNING_QUERIES,
            max_pending_replies: queues.pending_replies_per_connection,
            outbox: OutboxLimits { max_events: queues.outbox_events, max_bytes: queues.outbox_bytes },
            query: QueryLimits {
                default_limit: limits.default_limit,
                max_limit: limits.max_limit,
                eose_hints: protocol.eose_hints,
                boundary_overrun: limits.boundary_overrun,
                max_text_bytes: queues.outbox_bytes,
                head_timeout: config.database.statement_timeout,
            },
            parse: ParseLimits {
                max_filters: limits.max_filters,
                max_filter_values: match limits.max_filter_values {
                    0 => usize::MAX,
                    max => max,
                },
                and_tags: protocol.and_tags,
                max_req_bytes: limits.max_req_bytes,
                max_subscription_id_chars: MAX_SUBSCRIPTION_ID_CHARS,
            },
            messages: RateLimit::new(limits.messages_per_second, limits.messages_burst),
            events_per_address: RateLimit::new(limits.events_per_second_per_address, limits.events_burst_per_address),
            handshake_timeout: timeouts.handshake,
            header_timeout: timeouts.headers,
            message_timeout: timeouts.message,
            ping_interval: Some(timeouts.ping_interval).filter(|interval| !interval.is_zero()),
            pong_timeout: timeouts.pong_timeout,
            write_stall: timeouts.write_stall,
            trusted_networks: proxy.trusted_networks.clone(),
            proxy_protocol: proxy.proxy_protocol,
        }
    }

    /// True when `peer` is one of the operator's proxies. An IPv4 address inside IPv6 counts as what it is.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_networks.iter().any(|network| network.contains(&peer))
    }
}
