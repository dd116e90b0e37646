//! The model is strict, and the rendered files are those that were reviewed. `UPDATE_GOLDEN=1` rewrites the golden
//! files.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use haproxy::{ClientAddress, Cluster, EXAMPLE, Instance, Production, haproxy_cfg, process, production};
use kit::Certificate;
use std::path::Path;

fn instance(name: &str, host: &str, ports: &[u16]) -> Instance {
    Instance { name: name.into(), host: host.into(), ports: ports.into(), admin_port: 7778, agent_port: 0 }
}

fn local() -> Cluster {
    let mut cluster =
        Cluster::local(Path::new("/run/skein"), "127.0.0.1:8080".parse().unwrap(), "127.0.0.1:8404".parse().unwrap());
    cluster.instances = vec![instance("relay-1", "127.0.0.1", &[7777])];
    cluster
}

/// Different clusters, by the names of their golden files. `example` has every key. `ways` has PROXY v2, several ports
/// and source addresses (several ways to each relay), names and IPv6. `local` is minimal.
fn variants() -> [(&'static str, Cluster); 3] {
    let mut ways = local();
    ways.relay.client_address = ClientAddress::ProxyV2;
    ways.relay.max_connections = 100_000;
    ways.front.max_connections = 200_000;
    ways.front.source_addresses = vec!["10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap()];
    ways.front.log = "10.0.0.9:514".into();
    ways.front.resolvers = vec!["10.0.0.10:53".parse().unwrap()];
    ways.instances =
        vec![instance("relay-1", "relay-1.internal", &[7777, 7787]), instance("relay-2", "fd00::2", &[7777, 7787])];
    [("example", Cluster::parse(EXAMPLE).unwrap()), ("ways", ways), ("local", local())]
}

#[test]
fn rendered_files_are_the_reviewed_ones() {
    for (name, cluster) in variants() {
        kit::golden(&format!("{name}.cfg"), &haproxy_cfg(&cluster).unwrap());
    }
}

/// The production files are in the repository, so they are their own golden files.
#[test]
fn production_files_are_the_reviewed_ones() {
    let files = production::files(&Cluster::parse(EXAMPLE).unwrap()).unwrap();
    assert!(files.len() > 12);
    for file in files {
        kit::reviewed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/production").join(file.path), &file.text);
    }
    assert_eq!(production::files(&local()).unwrap().len(), 1, "without [production] there is HAProxy's alone");
}

/// Rendering must not overwrite the operator's own file, and a relay without that file must not start.
#[test]
fn the_unit_reads_its_secrets_from_a_file_that_is_not_rendered() {
    let files = production::files(&Cluster::parse(EXAMPLE).unwrap()).unwrap();
    let rendered = |path: &str| files.iter().any(|file| Path::new("/etc/skein").join(&file.path) == Path::new(path));
    let unit = files.iter().find(|file| file.path == "skein-relay@.service").unwrap();
    let read: Vec<_> = unit.text.lines().filter_map(|line| line.strip_prefix("EnvironmentFile=")).collect();
    assert!(rendered("/etc/skein/relay-1.env"), "control");
    assert_eq!(read, ["/etc/skein/%i.env", "/etc/skein/secrets.env"], "both must be there: no \"-\"");
    assert!(!rendered("/etc/skein/secrets.env"));
    assert!(unit.text.lines().any(|line| line == "Environment=RELAY_DATABASE_URLS="), "nor without the database in it");
}

/// Each variable for the relays is a setting of the relay.
#[test]
fn the_relays_variables_are_settings() {
    let settings: toml::Table = include_str!("../../relay.example.toml").parse().unwrap();
    let known = |name: &str| {
        let key = name.strip_prefix("RELAY_").unwrap().to_lowercase();
        let inside = |(section, value): (&String, &toml::Value)| {
            let rest = key.strip_prefix(section.as_str()).and_then(|rest| rest.strip_prefix('_'));
            value.as_table().is_some_and(|table| rest.is_some_and(|rest| table.contains_key(rest)))
        };
        settings.contains_key(&key) || settings.iter().any(inside)
    };

    let mut found = 0;
    for file in production::files(&Cluster::parse(EXAMPLE).unwrap()).unwrap() {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for name in file.text.split(|c| !part(c)).filter(|word| word.starts_with("RELAY_")) {
            assert!(known(name), "{}: {name} is no setting", file.path);
            found += 1;
        }
    }
    assert!(found > 30 && !known("RELAY_TIMEOUTS_DRAIN"), "control");
}

#[tokio::test]
async fn haproxy_takes_every_rendered_file() {
    let directory = tempfile::tempdir().unwrap();
    for (name, mut cluster) in variants() {
        if let Some(tls) = &mut cluster.front.tls {
            tls.certificate = directory.path().join("relay.pem");
            std::fs::write(&tls.certificate, Certificate::new().pem).unwrap();
        }
        let config = directory.path().join(name);
        std::fs::write(&config, haproxy_cfg(&cluster).unwrap()).unwrap();
        process::check(&config).await.unwrap();
        std::fs::write(&config, haproxy_cfg(&cluster).unwrap().replace("balance leastconn", "balance at random"))
            .unwrap();
        let error = process::check(&config).await.unwrap_err().to_string();
        assert!(error.contains("balance only supports"), "control: haproxy's own words are passed on: {error}");
    }
}

/// Removes each key of the example, and adds a key to each section: both are errors.
#[test]
fn a_missing_or_unknown_key_is_named() {
    let lines: Vec<_> = EXAMPLE.lines().collect();
    let mut keys = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
        keys += 1;
        let mut without = lines.clone();
        without.remove(at);
        let error = Cluster::parse(&without.join("\n")).unwrap_err().to_string();
        assert!(error.contains(&format!("missing field `{key}`")), "{error}");
        let unknown = format!("{key}_too = 1");
        let mut with_unknown = lines.clone();
        with_unknown.insert(at, &unknown);
        let error = Cluster::parse(&with_unknown.join("\n")).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown field `{key}_too`")), "{error}");
    }

    assert!(keys > 40, "{keys}");
    let without_tls = EXAMPLE.replace("[front.tls]", "[front.tsl]");
    assert!(Cluster::parse(&without_tls).unwrap_err().to_string().contains("tsl"));
}

fn production_of(cluster: &mut Cluster) -> &mut Production {
    cluster.production.get_or_insert(Cluster::example().production.unwrap())
}

#[test]
fn a_contradiction_is_named() {
    type Change = fn(&mut Cluster);
    let cases: [(&str, Change); 20] = [
        ("name", |c| c.name = "Skein relay".into()),
        ("relay.ping_interval_seconds", |c| c.relay.ping_interval_seconds = 0),
        ("relay.max_connections", |c| c.relay.max_connections = 0),
        ("relay.check_interval_ms", |c| c.relay.check_interval_ms = 1),
        ("front.listen", |c| c.front.listen.clear()),
        ("front.stats_listen", |c| c.front.stats_listen = c.front.listen[0]),
        ("front.runtime_socket", |c| c.front.runtime_socket = "haproxy.sock".into()),
        ("front.state_file", |c| c.front.state_file = "/run/a file\n".into()),
        ("front.log", |c| c.front.log = "stdout\n    user root".into()),
        ("instances.relay-1.name", |c| c.instances.push(instance("relay-1", "127.0.0.2", &[7777]))),
        ("instances.relay 2.name", |c| c.instances.push(instance("relay 2", "127.0.0.2", &[7777]))),
        ("instances.secrets.name", |c| c.instances[0].name = "secrets".into()),
        ("instances.relay-1.host", |c| c.instances[0].host = "127.0.0.1 backup".into()),
        ("instances.relay-2.ports", |c| c.instances.push(instance("relay-2", "127.0.0.1", &[7777]))),
        ("instances.relay-1.ports", |c| c.instances[0].ports.clear()),
        ("instances.relay-1.ports", |c| (c.relay.max_connections, c.front.max_connections) = (40_000, 40_000)),
        ("production.public_url", |c| production_of(c).public_url = "https://relay.example.com".into()),
        ("production.most_relays", |c| production_of(c).most_relays = 2),
        ("production.connections_per_relay", |c| production_of(c).connections_per_relay = 0),
        ("production.redis_image", |c| production_of(c).redis_image = "redis }}".into()),
    ];

    local().validate().unwrap();
    for (key, change) in cases {
        let mut cluster = local();
        change(&mut cluster);
        let error = haproxy_cfg(&cluster).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
    }
}

#[test]
fn the_tunnel_timeout_follows_the_ping_interval() {
    let mut cluster = local();
    (cluster.relay.ping_interval_seconds, cluster.relay.pong_timeout_seconds) = (20, 7);
    assert!(haproxy_cfg(&cluster).unwrap().contains("timeout tunnel 47s\n"));
}
