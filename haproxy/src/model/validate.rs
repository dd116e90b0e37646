//! Checks how values relate, and bounds that no type can express.

use super::{CONNECTIONS_PER_PORT, Cluster, Discovery, Instance, Production};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// All problems, each with its key first.
pub(super) fn problems(cluster: &Cluster) -> Vec<String> {
    let mut check = Check(Vec::new());
    check.that(is_label(&cluster.name), "name", "must be lowercase letters, digits and dashes");
    relay(cluster, &mut check);
    front(cluster, &mut check);
    instances(cluster, &mut check);
    if let Some(discovery) = &cluster.discovery {
        discovered(cluster, discovery, &mut check);
    }
    if let Some(production) = &cluster.production {
        for_production(cluster, production, &mut check);
    }
    check.0
}

struct Check(Vec<String>);

impl Check {
    fn that(&mut self, holds: bool, key: &str, otherwise: &str) {
        if !holds {
            self.0.push(format!("`{key}` {otherwise}"));
        }
    }

    fn above_zero(&mut self, key: &str, value: u32) {
        self.that(value > 0, key, "must be at least 1");
    }
}

fn relay(cluster: &Cluster, check: &mut Check) {
    let relay = &cluster.relay;
    check.that(
        relay.ping_interval_seconds > 0,
        "relay.ping_interval_seconds",
        "must be at least 1: without pings the front ends every quiet connection",
    );
    check.above_zero("relay.pong_timeout_seconds", relay.pong_timeout_seconds);
    check.above_zero("relay.handshake_seconds", relay.handshake_seconds);
    check.above_zero("relay.write_stall_seconds", relay.write_stall_seconds);
    check.above_zero("relay.max_connections", relay.max_connections);
    check.that(relay.check_interval_ms >= 50, "relay.check_interval_ms", "must be at least 50");
}

fn front(cluster: &Cluster, check: &mut Check) {
    let front = &cluster.front;
    check.above_zero("front.max_connections", front.max_connections);
    check.above_zero("front.keep_after_reload_seconds", front.keep_after_reload_seconds);
    let plain = front.listen.iter().map(|address| ("front.listen", *address));
    let tls = front.tls.iter().flat_map(|tls| tls.listen.iter().map(|address| ("front.tls.listen", *address)));
    let mut taken = BTreeSet::new();
    for (key, address) in plain.chain(tls).chain([("front.stats_listen", front.stats_listen)]) {
        check.that(address.port() != 0, key, "must name a port");
        check.that(taken.insert(address), key, &format!("names {address}, which is taken already"));
    }

    check.that(taken.len() > 1, "front.listen", "must name an address where no [front.tls] does");
    for (key, path) in [("front.runtime_socket", &front.runtime_socket), ("front.state_file", &front.state_file)] {
        check.that(is_plain_path(path), key, PLAIN_PATH);
    }
    let log = &front.log;
    check.that(
        log == "stdout" || log.parse::<SocketAddr>().is_ok() || is_plain_path(Path::new(log)),
        "front.log",
        "must be \"stdout\", a socket's path or an address with a port",
    );

    if let Some(tls) = &front.tls {
        check.that(!tls.listen.is_empty(), "front.tls.listen", "must name an address");
        check.that(is_plain_path(&tls.certificate), "front.tls.certificate", PLAIN_PATH);
        check.above_zero("front.tls.sessions", tls.sessions);
        check.above_zero("front.tls.session_seconds", tls.session_seconds);
    }
}

fn instances(cluster: &Cluster, check: &mut Check) {
    let (mut names, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    for instance in &cluster.instances {
        let Instance { name, host, ports, .. } = instance;
        let key = |field: &str| format!("instances.{name}.{field}");
        check.that(is_label(name), &key("name"), "must be lowercase letters, digits and dashes");
        check.that(names.insert(name), &key("name"), "is there twice");

        // The file of an instance has its name, and `secrets` is the operator's file, which must not be overwritten.
        check.that(name != "secrets", &key("name"), "must not be \"secrets\"");
        check.that(is_host(host), &key("host"), "must be a name or an IP address");
        check.that(!ports.is_empty(), &key("ports"), "must name a port");
        check.that(instance.admin_port != 0, &key("admin_port"), "must name a port");
        check.that(!ports.contains(&0), &key("ports"), "must not hold 0");
        let every = ports.iter().chain([&instance.admin_port, &instance.agent_port]);
        for port in every.filter(|port| **port != 0) {
            check.that(sockets.insert((host, *port)), &key("ports"), &format!("names {host}:{port} twice"));
        }
        reachable(cluster, &key("ports"), ports.len(), check);
    }
}

fn discovered(cluster: &Cluster, discovery: &Discovery, check: &mut Check) {
    check.that(
        is_host(&discovery.name) && discovery.name.parse::<IpAddr>().is_err(),
        "discovery.name",
        "must be a DNS name",
    );
    check.above_zero("discovery.slots", discovery.slots.into());
    check.above_zero("discovery.port", discovery.port.into());
    check.above_zero("discovery.admin_port", discovery.admin_port.into());
    check.that(
        cluster.front.source_addresses.len() < 2,
        "front.source_addresses",
        "must be at most one with [discovery], whose servers are reached from one address",
    );
    reachable(cluster, "discovery.port", 1, check);
}

fn for_production(cluster: &Cluster, production: &Production, check: &mut Check) {
    let url = &production.public_url;
    let host = url.strip_prefix("wss://").or_else(|| url.strip_prefix("ws://")).map(|rest| rest.trim_end_matches('/'));
    let host = host.map(|rest| rest.rsplit_once(':').map_or(rest, |(host, _)| host));
    check.that(host.is_some_and(is_host), "production.public_url", "must be ws:// or wss:// and a host");
    check.above_zero("production.relays", production.relays.into());
    check.that(
        production.most_relays >= production.relays,
        "production.most_relays",
        "must be at least production.relays",
    );

    check.that(
        (1..=cluster.relay.max_connections).contains(&production.connections_per_relay),
        "production.connections_per_relay",
        "must be at least 1 and at most relay.max_connections: another relay is to start before one is full",
    );

    check.that(production.clients_memory_mib >= 16, "production.clients_memory_mib", "must be at least 16");
    for (key, image) in production.images() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@".contains(&byte);
        let good = !image.is_empty() && image.bytes().all(plain);
        check.that(good, &format!("production.{key}"), "must be the name of an image");
    }
}

/// Checks that there is a free local port for each of an instance's connections.
fn reachable(cluster: &Cluster, key: &str, ports: usize, check: &mut Check) {
    let ways = ports * cluster.front.source_addresses.len().max(1);
    let reach = u64::from(CONNECTIONS_PER_PORT) * ways as u64;
    let wanted = u64::from(cluster.relay.max_connections.min(cluster.front.max_connections));
    check.that(
        reach >= wanted || ways == 0,
        key,
        &format!(
            "reach {reach} connections, {CONNECTIONS_PER_PORT} for each port and source address, fewer than the {wanted} of \
             relay.max_connections: name more ports or more front.source_addresses"
        ),
    );
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 40 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_host(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    text.parse::<IpAddr>().is_ok() || text.len() <= 253 && text.split('.').all(part)
}

const PLAIN_PATH: &str = "must be an absolute path of letters, digits and the characters / . _ - +";

/// True for a path that needs no escapes in the syntax of HAProxy, systemd and YAML.
fn is_plain_path(path: &Path) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    path.is_absolute() && path.to_str().is_some_and(|path| path.bytes().all(plain))
}
