//! What bounds a client's life. The app fills this from its configuration and may swap it while the relay runs.

use crate::message::ParseLimits;
use crate::outbox::OutboxLimits;
use crate::policy::RelayUrl;
use crate::query::QueryLimits;
use crate::types::PrivateKinds;
use ipnet::IpNet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// What bounds connections. Read anew for each message, so a swap takes effect at once, but for what is said to be
/// settled when a connection begins.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// The relay's own address as clients name it when they authenticate (NIP-42). `None`: whatever the client's
    /// `Host` header says, which suits a relay that is reached in several ways but lets a proxy replay a proof.
    pub public_url: Option<RelayUrl>,
    /// The kinds that only their recipients may read.
    pub private_kinds: PrivateKinds,
    /// The largest message that is served. One up to twice as large is answered with a refusal, a still larger one
    /// ends the connection. Settled when a connection begins.
    pub max_message_bytes: usize,
    /// The most connections at the same time, whatever they are doing.
    pub max_connections: usize,
    /// The most connections from one address (or one IPv6 /64) at the same time; 0: any number.
    pub max_connections_per_address: usize,
    /// The most open subscriptions of one connection.
    pub max_subscriptions: usize,
    /// The most REQs and COUNTs of one connection that the store works on at the same time; the next ones wait
    /// unread.
    pub max_running_queries: usize,
    /// The most answers that are owed to one connection, under way or queued; until it reads some, nothing more is
    /// read from it.
    pub max_pending_replies: usize,
    /// How many events may wait for one connection. Settled when a connection begins.
    pub outbox: OutboxLimits,
    /// How queries are bounded.
    pub query: QueryLimits,
    /// How much one message may ask for.
    pub parse: ParseLimits,
    /// How often one connection may send a message; `None`: as often as it likes.
    pub messages: Option<Rate>,
    /// How often one address (or one IPv6 /64) may send an event; `None`: as often as it likes.
    pub events_per_address: Option<Rate>,
    /// From the acceptance of a connection to the end of its WebSocket handshake.
    pub handshake_timeout: Duration,
    /// For the headers of the HTTP request.
    pub header_timeout: Duration,
    /// For one message, from its first byte to its last.
    pub message_timeout: Duration,
    /// A client that was silent for so long gets a ping; `None`: no pings.
    pub ping_interval: Option<Duration>,
    /// How long a ping may stay without any sign of life.
    pub pong_timeout: Duration,
    /// How long a client may take no byte although some wait for it.
    pub write_stall: Duration,
    /// Networks whose word about a client's address is believed.
    pub trusted_networks: Vec<IpNet>,
    /// Every connection begins with a PROXY protocol header, version 2, and comes from a trusted network.
    pub proxy_protocol: bool,
}

/// So many in a second for any length of time, and so many at once before that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The sustained rate.
    pub per_second: NonZeroU32,
    /// The most at once.
    pub burst: NonZeroU32,
}

impl ConnectionSettings {
    /// True when `peer` is one of the operator's proxies. An IPv4 address inside IPv6 counts as what it is.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_networks.iter().any(|network| network.contains(&peer))
    }
}
