//! Renders the production files of a cluster: they build, start, watch and stop its processes.

use crate::model::{ClientAddress, Cluster, Discovery, Production};
use crate::plan::relay_memory_mib;
use crate::render::{RenderError, haproxy_cfg, render};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use tera::Context;

/// Seconds between the end of the drain and the moment when a relay may be killed: 5 for Close frames, 30 to commit the
/// accepted events, and some to spare.
const AFTER_DRAIN_SECONDS: u32 = 45;
/// Descriptors of a relay or of HAProxy beside those of its clients.
const OTHER_DESCRIPTORS: u32 = 1_000;
/// The ports of a relay in a container, as the Dockerfile sets them.
const CLIENTS_PORT: u16 = 7777;
const ADMIN_PORT: u16 = 7778;
const AGENT_PORT: u16 = 7779;
/// Docker's DNS server, in every container.
const DOCKER_DNS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);

/// One rendered file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The path relative to the directory of all files, which is `deploy/production` in the repository.
    pub path: String,
    /// The content.
    pub text: String,
}

#[derive(Serialize)]
struct Variable {
    name: &'static str,
    value: String,
}

#[derive(Serialize)]
struct Port {
    name: String,
    outside: String,
    inside: u16,
}

/// All files; only `haproxy.cfg` where the cluster has no `[production]`.
pub fn files(cluster: &Cluster) -> Result<Vec<File>, RenderError> {
    cluster.validate()?;
    let mut files = vec![File { path: "haproxy.cfg".to_owned(), text: haproxy_cfg(cluster)? }];
    let Some(production) = &cluster.production else { return Ok(files) };
    files.push(File { path: "prometheus.yaml".to_owned(), text: prometheus(cluster)? });
    let compose_cfg = haproxy_cfg(&in_containers(cluster, "relay", vec![DOCKER_DNS]))?;
    let name = &cluster.name;
    let kubernetes_cfg = haproxy_cfg(&in_containers(cluster, &format!("relay.{name}.svc.cluster.local"), Vec::new()))?;
    let mut context = context(cluster, production);
    context.insert("haproxy_cfg", &indented(&kubernetes_cfg));
    context.insert("haproxy_cfg_digest", &digest(&kubernetes_cfg));
    files.push(File { path: "haproxy.compose.cfg".to_owned(), text: compose_cfg });
    let hardening = include_str!("../templates/production/hardening");
    for (path, template) in [
        ("Dockerfile", include_str!("../templates/production/Dockerfile")),
        ("compose.yaml", include_str!("../templates/production/compose.yaml")),
        ("postgres-init.sh", include_str!("../templates/production/postgres-init.sh")),
        ("postgres-standby.sh", include_str!("../templates/production/postgres-standby.sh")),
        ("kubernetes.yaml", include_str!("../templates/production/kubernetes.yaml")),
        ("redis-sentinel.conf", include_str!("../templates/production/redis-sentinel.conf")),
        ("redis-cluster.conf", include_str!("../templates/production/redis-cluster.conf")),
        (&format!("{name}-relay@.service"), include_str!("../templates/production/relay.service")),
        (&format!("{name}-haproxy.service"), include_str!("../templates/production/haproxy.service")),
    ] {
        let template = template.replace("{% include \"hardening\" %}\n", hardening);
        files.push(File { path: path.to_owned(), text: render(path, &template, &context)? });
    }

    files.extend(cluster.instances.iter().map(|instance| {
        let (clients, admin) = (instance.ports.first().copied().unwrap_or(CLIENTS_PORT), instance.admin_port);
        let mut text = format!(
            "# Rendered from the cluster file of {name}; /etc/skein/{0}.env of {name}-relay@{0}. Secrets do not belong\n\
             # here, where the next rendering would remove them, but into secrets.env.\n\
             RELAY_LISTEN=0.0.0.0:{clients}\nRELAY_ADMIN_LISTEN=0.0.0.0:{admin}\n",
            instance.name
        );
        if instance.agent_port > 0 {
            text += &format!("RELAY_ADMIN_AGENT_LISTEN=0.0.0.0:{}\n", instance.agent_port);
        }
        File { path: format!("{}.env", instance.name), text }
    }));
    Ok(files)
}

/// Prometheus' configuration: it scrapes the relays and HAProxy and, where clients use `wss://`, lets the blackbox
/// exporter check the certificate. It reads its rules from a `rules.yaml` beside it.
pub fn prometheus(cluster: &Cluster) -> Result<String, RenderError> {
    cluster.validate()?;
    let mut context = Context::new();
    context.insert("cluster", cluster);
    let url = cluster.production.as_ref().map(|production| production.public_url.as_str());
    let page = url.and_then(|url| url.strip_prefix("wss://")).map(|host| format!("https://{host}"));
    context.insert("page", &page);
    render("prometheus.yaml", include_str!("../templates/observe/prometheus.yaml"), &context)
}

/// The same cluster with its relays in containers: DNS finds them by name, each has the ports of the image, and the
/// container's host can reach the statistics.
fn in_containers(cluster: &Cluster, name: &str, resolvers: Vec<SocketAddr>) -> Cluster {
    let mut cluster = cluster.clone();
    cluster.instances = Vec::new();
    cluster.discovery = Some(Discovery {
        name: name.to_owned(),
        slots: cluster.production.as_ref().map_or(1, |production| production.most_relays),
        port: CLIENTS_PORT,
        admin_port: ADMIN_PORT,
        agent_port: AGENT_PORT,
    });
    cluster.front.resolvers = resolvers;
    cluster.front.source_addresses = Vec::new();
    cluster.front.log = "stdout".to_owned();
    cluster.front.stats_listen.set_ip(Ipv4Addr::UNSPECIFIED.into());
    cluster
}

fn context(cluster: &Cluster, production: &Production) -> Context {
    let (relay, front) = (&cluster.relay, &cluster.front);
    let directory = |path: &Path| path.parent().unwrap_or(Path::new("/")).display().to_string();
    let tls = front.tls.as_ref();
    let mut context = Context::new();
    context.insert("cluster", cluster);
    context.insert("production", production);
    context.insert("relay_memory_mib", &relay_memory_mib(cluster, production));
    context.insert("variables", &variables(cluster, production));
    context.insert("ports", &ports(cluster));
    context.insert("replicas", &(1..=production.replicas).map(|n| format!("replica-{n}")).collect::<Vec<_>>());
    context.insert("stop_seconds", &relay.drain_seconds.saturating_add(AFTER_DRAIN_SECONDS));
    context.insert("relay_descriptors", &relay.max_connections.saturating_add(OTHER_DESCRIPTORS));
    let front_descriptors = front.max_connections.saturating_mul(2).saturating_add(OTHER_DESCRIPTORS);
    context.insert("front_descriptors", &front_descriptors);
    context.insert("tls_directory", &tls.map_or_else(String::new, |tls| directory(&tls.certificate)));
    let tls_file = tls.and_then(|tls| tls.certificate.file_name()).unwrap_or_default();
    context.insert("tls_file", &tls_file.to_string_lossy());
    context.insert("run_directory", &directory(&front.runtime_socket));
    context
}

/// The relays' settings that the cluster file contains, as environment variables.
fn variables(cluster: &Cluster, production: &Production) -> Vec<Variable> {
    let relay = &cluster.relay;
    let proxy_v2 = relay.client_address == ClientAddress::ProxyV2;
    let of = |name, value: &dyn ToString| Variable { name, value: value.to_string() };
    vec![
        of("RELAY_PUBLIC_URL", &production.public_url),
        of("RELAY_LIMITS_MAX_CONNECTIONS", &relay.max_connections),
        of("RELAY_TIMEOUTS_PING_INTERVAL_SECONDS", &relay.ping_interval_seconds),
        of("RELAY_TIMEOUTS_PONG_TIMEOUT_SECONDS", &relay.pong_timeout_seconds),
        of("RELAY_TIMEOUTS_HANDSHAKE_SECONDS", &relay.handshake_seconds),
        of("RELAY_TIMEOUTS_WRITE_STALL_SECONDS", &relay.write_stall_seconds),
        of("RELAY_TIMEOUTS_DRAIN_SECONDS", &relay.drain_seconds),
        of("RELAY_PROXY_PROXY_PROTOCOL", &proxy_v2),
        of("RELAY_MEMORY_CLIENTS_BYTES", &(u64::from(production.clients_memory_mib) << 20)),
        of("RELAY_LOG_FORMAT", &"json"),
    ]
}

/// HAProxy's ports in a container. Only the host can reach its statistics.
fn ports(cluster: &Cluster) -> Vec<Port> {
    let front = &cluster.front;
    let numbered = |kind: &str, addresses: &[SocketAddr]| {
        let port = |(index, address): (usize, &SocketAddr)| Port {
            name: if index == 0 { kind.to_owned() } else { format!("{kind}-{}", index + 1) },
            outside: address.port().to_string(),
            inside: address.port(),
        };
        addresses.iter().enumerate().map(port).collect::<Vec<_>>()
    };
    let mut ports = numbered("ws", &front.listen);
    ports.extend(front.tls.iter().flat_map(|tls| numbered("wss", &tls.listen)));
    let stats = front.stats_listen.port();
    ports.push(Port { name: "stats".to_owned(), outside: format!("127.0.0.1:{stats}"), inside: stats });
    ports
}

/// Indents a text as a block of YAML below a key of a `data` map.
fn indented(text: &str) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("    {line}") };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// An FNV-1a hash, which tells configurations apart.
fn digest(text: &str) -> String {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
}
