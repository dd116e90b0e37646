//! The model of a cluster, which an operator writes as TOML: unknown and missing keys are errors. [`EXAMPLE`] documents
//! every key.

mod production;
mod server;
mod validate;

pub use production::Production;
pub use server::Server;

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// A complete, documented cluster file, which is also what the golden files are rendered from.
pub const EXAMPLE: &str = include_str!("../../cluster.example.toml");

/// The most connections from one source address to one port of one host: the kernel's default
/// `net.ipv4.ip_local_port_range` has 28,232 ports.
pub const CONNECTIONS_PER_PORT: u32 = 28_000;

/// A cluster. Made by [`parse`](Self::parse), or in code and then checked by [`validate`](Self::validate).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Lowercase letters, digits and dashes.
    pub name: String,
    /// The settings that all relays share.
    pub relay: Relay,
    /// HAProxy.
    pub front: Front,
    /// The relays, by name.
    pub instances: Vec<Instance>,
    /// Relays that HAProxy finds by DNS.
    pub discovery: Option<Discovery>,
    /// Further values for the production files.
    pub production: Option<Production>,
}

/// The settings of all relays that HAProxy must know.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// The relays' own setting, in seconds; not 0.
    pub ping_interval_seconds: u32,
    /// The relays' own setting, in seconds.
    pub pong_timeout_seconds: u32,
    /// The relays' own setting, in seconds.
    pub handshake_seconds: u32,
    /// The relays' own setting, in seconds.
    pub write_stall_seconds: u32,
    /// The relays' own setting, in seconds.
    pub drain_seconds: u32,
    /// The most connections of one instance.
    pub max_connections: u32,
    /// How a relay learns a client's address.
    pub client_address: ClientAddress,
    /// How many seconds an instance that has come back takes to reach its full share; 0: none.
    pub slowstart_seconds: u32,
    /// Milliseconds between two checks of an instance.
    pub check_interval_ms: u32,
}

impl Relay {
    /// Seconds of silence, in both directions, after which the front ends a connection. A relay that pings every
    /// `ping_interval` and gives up after `pong_timeout` is always quicker, unless its machine is gone.
    pub fn tunnel_timeout_seconds(&self) -> u64 {
        2 * u64::from(self.ping_interval_seconds) + u64::from(self.pong_timeout_seconds)
    }
}

/// How a relay learns a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddress {
    /// The `X-Forwarded-For` header, which the front replaces.
    XForwardedFor,
    /// A PROXY protocol header, version 2, at the start of each connection.
    ProxyV2,
}

/// HAProxy itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Front {
    /// The addresses for `ws://`.
    pub listen: Vec<SocketAddr>,
    /// The most clients at the same time.
    pub max_connections: u32,
    /// The most clients of one address at the same time; 0: no limit.
    pub max_connections_per_address: u32,
    /// The most new connections of one address in 10 seconds; 0: no limit.
    pub new_connections_per_address_in_10_seconds: u32,
    /// The source addresses of connections to the relays; empty: the system chooses.
    pub source_addresses: Vec<IpAddr>,
    /// How many seconds a process that a reload has replaced may keep running.
    pub keep_after_reload_seconds: u32,
    /// The address for statistics, metrics and its own health.
    pub stats_listen: SocketAddr,
    /// The Runtime API's Unix socket.
    pub runtime_socket: PathBuf,
    /// The file in which a reload saves the servers' states.
    pub state_file: PathBuf,
    /// DNS servers that resolve the relays' names; empty: those in `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// `stdout`, a socket's path, or an address.
    pub log: String,
    /// `wss://`.
    pub tls: Option<Tls>,
}

/// `wss://`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The addresses for `wss://`.
    pub listen: Vec<SocketAddr>,
    /// A PEM file of certificate, chain and key.
    pub certificate: PathBuf,
    /// How many TLS sessions are kept for clients that come back.
    pub sessions: u32,
    /// How many seconds a session is kept.
    pub session_seconds: u32,
}

/// One relay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Unique; lowercase letters, digits and dashes.
    pub name: String,
    /// A name or an IP address.
    pub host: String,
    /// Where clients' connections go.
    pub ports: Vec<u16>,
    /// Where `/ready` answers.
    pub admin_port: u16,
    /// The port on which it answers its weight; 0: none.
    pub agent_port: u16,
}

/// Relays that HAProxy finds by DNS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// The name whose addresses are relays.
    pub name: String,
    /// The most relays that the name may have.
    pub slots: u16,
    /// Where clients' connections go.
    pub port: u16,
    /// Where `/ready` answers.
    pub admin_port: u16,
    /// The port on which a relay answers its weight; 0: none.
    pub agent_port: u16,
}

/// Why a cluster file is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// It is not TOML, or a key is missing, unknown, or of another type; the message names key and line.
    #[error(transparent)]
    Syntax(#[from] toml::de::Error),
    /// The values contradict each other. Lists all problems, one a line, each with its key first.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

impl Cluster {
    /// Reads and validates a cluster file.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let cluster: Self = toml::from_str(text)?;
        cluster.validate()?;
        Ok(cluster)
    }

    /// The cluster of [`EXAMPLE`], to change in code.
    pub fn example() -> Self {
        toml::from_str(EXAMPLE).expect("a test reads the example")
    }

    /// A cluster of processes on this machine, without instances yet. HAProxy listens on `listen` alone, has no limits
    /// per address (all clients have the same), keeps its sockets and states in `directory`, and checks relays often.
    pub fn local(directory: &Path, listen: SocketAddr, stats_listen: SocketAddr) -> Self {
        let example = Self::example();
        let front = Front {
            listen: vec![listen],
            // Each takes two descriptors. Not more: HAProxy does not start where the system's hard limit is lower.
            max_connections: 8_000,
            max_connections_per_address: 0,
            new_connections_per_address_in_10_seconds: 0,
            stats_listen,
            runtime_socket: directory.join("haproxy.sock"),
            state_file: directory.join("haproxy.state"),
            tls: None,
            ..example.front
        };
        let relay = Relay { max_connections: 8_000, slowstart_seconds: 0, check_interval_ms: 200, ..example.relay };
        Self { name: "local".to_owned(), relay, front, instances: Vec::new(), discovery: None, production: None }
    }

    /// Checks that the values do not contradict each other, and that no text needs escapes in a configuration file.
    pub fn validate(&self) -> Result<(), ModelError> {
        let problems = validate::problems(self);
        if problems.is_empty() { Ok(()) } else { Err(ModelError::Invalid(problems)) }
    }

    /// The server lines of all instances, in their order: one for each port and each source address.
    pub fn servers(&self) -> Vec<Server> {
        self.instances.iter().flat_map(|instance| self.servers_of(instance)).collect()
    }

    /// The common arguments of the servers that DNS names, if there are any. Its name and host have no meaning.
    pub fn discovered(&self) -> Option<Server> {
        let discovery = self.discovery.as_ref()?;
        let instance = Instance {
            name: String::new(),
            host: String::new(),
            ports: vec![discovery.port],
            admin_port: discovery.admin_port,
            agent_port: discovery.agent_port,
        };
        self.servers_of(&instance).into_iter().next()
    }

    /// The server lines of one instance, which may be missing in `instances`.
    pub fn servers_of(&self, instance: &Instance) -> Vec<Server> {
        Server::of(&self.relay, &self.front.source_addresses, instance)
    }
}
