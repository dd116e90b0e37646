//! One `server` line: the same arguments in the configuration file and in the Runtime API's `add server`.

use super::{ClientAddress, Instance, Relay};
use serde::Serialize;
use std::net::IpAddr;

/// One server of the backend: one port of an instance, reached from one source address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// The instance's name; further lines of the same instance have `.2`, `.3` and so on after it.
    pub name: String,
    /// The instance's host: a name or an address.
    pub host: String,
    /// Where clients' connections go.
    pub port: u16,
    /// Where `/ready` answers.
    pub admin_port: u16,
    /// Where it tells its weight; 0: it does not.
    pub agent_port: u16,
    /// The most connections to it at the same time: its part of the instance's limit.
    pub max_connections: u32,
    /// Whether the host is a name.
    pub named: bool,
    /// The source address of connections to it.
    pub source: Option<IpAddr>,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_v2: bool,
    /// See [`Relay`].
    pub slowstart_seconds: u32,
    /// See [`Relay`].
    pub check_interval_ms: u32,
}

impl Server {
    pub(super) fn of(relay: &Relay, sources: &[IpAddr], instance: &Instance) -> Vec<Self> {
        let sources: Vec<_> = if sources.is_empty() { vec![None] } else { sources.iter().copied().map(Some).collect() };
        let ways = || instance.ports.iter().flat_map(|port| sources.iter().map(move |source| (*port, *source)));
        let count = u32::try_from(ways().count()).unwrap_or(u32::MAX).max(1);
        let server = |(index, (port, source))| Self {
            name: if index == 0 { instance.name.clone() } else { format!("{}.{}", instance.name, index + 1) },
            // An IPv6 address must be in brackets, since a port follows.
            host: if instance.host.contains(':') { format!("[{}]", instance.host) } else { instance.host.clone() },
            named: instance.host.parse::<IpAddr>().is_err(),
            port,
            admin_port: instance.admin_port,
            agent_port: instance.agent_port,
            max_connections: relay.max_connections.div_ceil(count),
            source,
            proxy_v2: relay.client_address == ClientAddress::ProxyV2,
            slowstart_seconds: relay.slowstart_seconds,
            check_interval_ms: relay.check_interval_ms,
        };
        ways().enumerate().map(server).collect()
    }
}
