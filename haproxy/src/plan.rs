//! Computes what a number of clients needs, and which limit a cluster reaches first. docs/capacity.md says how the
//! costs were measured and what they leave out.

use crate::model::{CONNECTIONS_PER_PORT, Cluster, Production};
use std::fmt;

/// Memory of a relay before its first client: 12 MiB for itself, the ring (queues.ring_bytes) and the cache
/// (cache.l1_bytes) when they are full.
pub const RELAY_BASE_BYTES: u64 = (12 << 20) + (64 << 20) + (64 << 20);
/// Memory of a relay for a client with three subscriptions; an idle one takes 8.2 KiB.
pub const RELAY_CLIENT_BYTES: u64 = 14_440;
/// Memory of HAProxy before its first client.
pub const FRONT_BASE_BYTES: u64 = 21 << 20;
/// Memory of HAProxy for a `ws://` client.
pub const FRONT_CLIENT_BYTES: u64 = 4_710;
/// Memory of HAProxy for a `wss://` client.
pub const FRONT_TLS_CLIENT_BYTES: u64 = 19_310;
/// Descriptors of a process beside those of its clients.
const OTHER_DESCRIPTORS: u64 = 1_000;

/// The limits of the databases, which the cluster file does not contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Databases {
    /// Connections of one relay to the primary.
    pub primary_pool: u32,
    /// Connections of one relay to each standby.
    pub replica_pool: u32,
    /// `max_connections` of each server, of which some are kept for operators.
    pub max_connections: u32,
}

impl Default for Databases {
    /// The maxima of the pools, and the limit in `deploy/postgres/primary.conf`.
    fn default() -> Self {
        Self { primary_pool: 20, replica_pool: 50, max_connections: 300 }
    }
}

/// One limited resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its name, and where it is set.
    pub what: &'static str,
    /// How much of it the clients need.
    pub need: u64,
    /// How much of it there is.
    pub have: u64,
}

impl Limit {
    /// The share that is needed; above 1 it is not enough.
    pub fn share(&self) -> f64 {
        self.need as f64 / (self.have.max(1)) as f64
    }
}

/// What a number of clients needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The clients.
    pub connections: u64,
    /// The number of relays that can hold all clients while one of them is down.
    pub relays: u64,
    /// The clients of one relay while another one is down.
    pub connections_per_relay: u64,
    /// The ports that each relay must listen on.
    pub ports_per_relay: u64,
    /// Descriptors of each relay (LimitNOFILE).
    pub relay_descriptors: u64,
    /// Memory of each relay, in bytes.
    pub relay_bytes: u64,
    /// HAProxy's maxconn.
    pub front_connections: u64,
    /// Descriptors of HAProxy: two a client.
    pub front_descriptors: u64,
    /// Memory of HAProxy, in bytes.
    pub front_bytes: u64,
    /// Connections of all relays to the primary.
    pub primary_connections: u64,
    /// Connections of all relays to each standby.
    pub replica_connections: u64,
    /// The limited resources, the one that runs out first at the beginning.
    pub limits: Vec<Limit>,
}

/// The memory limit of one relay, in MiB: its memory with the most clients, which hold as much as they may, and a
/// quarter more for the store's pages, the allocator and the kernel.
pub fn relay_memory_mib(cluster: &Cluster, production: &Production) -> u64 {
    let clients = u64::from(cluster.relay.max_connections) * RELAY_CLIENT_BYTES;
    let bytes = RELAY_BASE_BYTES + clients + (u64::from(production.clients_memory_mib) << 20);
    (bytes / 4 * 5).div_ceil(64 << 20) * 64
}

/// The plan for `connections` clients of this cluster, all of them on `wss://` where it has `[front.tls]`.
pub fn plan(cluster: &Cluster, databases: &Databases, connections: u32) -> Plan {
    let connections = u64::from(connections);
    let (relay, front) = (&cluster.relay, &cluster.front);
    let relays = connections.div_ceil(u64::from(relay.max_connections.max(1))).max(1) + 1;
    let each = connections.div_ceil(relays - 1);
    let sources = front.source_addresses.len().max(1) as u64;
    let held = cluster.production.as_ref().map_or(0, |production| u64::from(production.clients_memory_mib) << 20);
    let relay_bytes = RELAY_BASE_BYTES + each * RELAY_CLIENT_BYTES + held;
    let client_bytes = if front.tls.is_some() { FRONT_TLS_CLIENT_BYTES } else { FRONT_CLIENT_BYTES };
    let primary_connections = relays * u64::from(databases.primary_pool);
    let replica_connections = relays * u64::from(databases.replica_pool);

    let ports = cluster.instances.iter().map(|instance| instance.ports.len()).min().unwrap_or(1) as u64;
    let production = cluster.production.as_ref();
    let named = cluster.instances.len() as u64 + cluster.discovery.as_ref().map_or(0, |found| u64::from(found.slots));
    let most_relays = production.map_or(named, |production| u64::from(production.most_relays));
    let max_connections = u64::from(databases.max_connections);
    let limit = |what, need, have| Limit { what, need, have };
    let mut limits = vec![
        limit("clients of HAProxy (front.max_connections)", connections, u64::from(front.max_connections)),
        limit("relays (production.most_relays, or instances and discovery.slots)", relays, most_relays),
        limit(
            "connections from HAProxy to one relay (instances.ports, front.source_addresses)",
            each,
            ports * sources * u64::from(CONNECTIONS_PER_PORT),
        ),
        limit("connections to the primary (max_connections)", primary_connections, max_connections),
        limit("connections to each standby (max_connections)", replica_connections, max_connections),
    ];
    if let Some(production) = production {
        let have = relay_memory_mib(cluster, production) << 20;
        let what = "bytes of memory of one relay (production.clients_memory_mib, relay.max_connections)";
        limits.push(limit(what, relay_bytes, have));
    }
    limits.sort_by(|a, b| b.share().total_cmp(&a.share()));
    Plan {
        connections,
        relays,
        connections_per_relay: each,
        ports_per_relay: each.div_ceil(sources * u64::from(CONNECTIONS_PER_PORT)),
        relay_descriptors: each + OTHER_DESCRIPTORS,
        relay_bytes,
        front_connections: connections,
        front_descriptors: 2 * connections + OTHER_DESCRIPTORS,
        front_bytes: FRONT_BASE_BYTES + connections * client_bytes,
        primary_connections,
        replica_connections,
        limits,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        writeln!(f, "{} clients need", self.connections)?;
        writeln!(f, "  relays          {}, so that one may be away", self.relays)?;
        writeln!(
            f,
            "  each relay      {} clients, ports: {}, {} descriptors, {} MiB",
            self.connections_per_relay,
            self.ports_per_relay,
            self.relay_descriptors,
            mib(self.relay_bytes)
        )?;

        writeln!(
            f,
            "  HAProxy         maxconn {}, {} descriptors, {} MiB",
            self.front_connections,
            self.front_descriptors,
            mib(self.front_bytes)
        )?;

        writeln!(
            f,
            "  Postgres        {} connections on the primary, {} on each standby",
            self.primary_connections, self.replica_connections
        )?;

        writeln!(f, "\nwhat runs out first")?;
        for limit in &self.limits {
            let percent = limit.share() * 100.0;
            let verdict = if percent > 100.0 { "  TOO LITTLE" } else { "" };
            writeln!(f, "  {percent:>5.0} %  {} of {} {}{verdict}", limit.need, limit.have, limit.what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_loss_of_a_relay() {
        let cluster = Cluster::example();
        for connections in [0, 1, 25_000, 25_001, 60_000, 100_000] {
            let plan = plan(&cluster, &Databases::default(), connections);
            let max = u64::from(cluster.relay.max_connections);
            assert!((plan.relays - 1) * max >= u64::from(connections), "{plan}");
            assert!((plan.relays - 2) * max < u64::from(connections).max(1), "and not one more: {plan}");
            assert!(plan.connections_per_relay <= max, "{plan}");
        }
    }

    #[test]
    fn the_memory_limit_follows_from_the_account_of_clients() {
        let cluster = Cluster::example();
        let mut production = cluster.production.clone().unwrap();
        let limit = relay_memory_mib(&cluster, &production);
        let plan = plan(&cluster, &Databases::default(), cluster.relay.max_connections);
        assert!(plan.relay_bytes < limit << 20 && plan.relay_bytes * 4 > (limit << 20) * 3 - (64 << 20), "{plan}");
        production.clients_memory_mib += 256;
        assert_eq!(relay_memory_mib(&cluster, &production), limit + 320);
    }

    #[test]
    fn what_runs_out_first_comes_first() {
        let cluster = Cluster::example();
        let plan = plan(&cluster, &Databases::default(), 100_000);
        assert_eq!((plan.relays, plan.connections_per_relay, plan.ports_per_relay), (5, 25_000, 1));
        assert_eq!((plan.primary_connections, plan.replica_connections), (100, 250));
        let first = plan.limits.first().unwrap();
        assert!(first.what.starts_with("clients of HAProxy") && first.share() > 1.0, "{plan}");
        assert!(plan.limits.is_sorted_by(|a, b| a.share() >= b.share()));
        assert!(plan.to_string().contains("100000 of 75000 clients of HAProxy"), "{plan}");
        assert_eq!(plan.to_string().matches("TOO LITTLE").count(), 1, "{plan}");
    }
}
