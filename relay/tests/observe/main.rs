//! Compares deploy/observe with the catalogue of metrics: the dashboard is drawn from the catalogue, every metric in a
//! rule exists, and every alert links to a page that exists.

#![allow(missing_docs, clippy::unwrap_used)]

mod dashboard;

use relay::telemetry::{CATALOGUE, MetricKind};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Metrics that others serve: HAProxy, the blackbox exporter, Prometheus itself.
const FOREIGN: &[&str] =
    &["haproxy_backend_active_servers", "haproxy_process_start_time_seconds", "probe_ssl_earliest_cert_expiry", "up"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every name that an expression may have.
fn served() -> BTreeSet<String> {
    let own = CATALOGUE.iter().flat_map(|metric| match metric.kind {
        MetricKind::Histogram => ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", metric.name)).to_vec(),
        MetricKind::Counter | MetricKind::Gauge => vec![metric.name.to_owned()],
    });
    own.chain(FOREIGN.iter().map(|name| (*name).to_owned())).collect()
}

/// The metrics in PromQL expressions that do not exist.
fn unknown(text: &str, served: &BTreeSet<String>) -> Vec<String> {
    let names = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let metric = |name: &&str| ["nostr_", "haproxy_", "probe_"].iter().any(|prefix| name.starts_with(prefix));
    names.filter(metric).filter(|name| !served.contains(*name)).map(str::to_owned).collect()
}

#[test]
fn every_metric_has_its_panel() {
    let path = workspace().join("deploy/observe/dashboard.json");
    let drawn = dashboard::draw();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    assert!(read("deploy/observe/dashboard.json") == drawn, "{} is out of date: UPDATE_GOLDEN=1", path.display());
    assert_eq!(unknown(&drawn, &served()), Vec::<String>::new());
    for metric in CATALOGUE {
        assert!(drawn.contains(metric.name), "{} is on no panel", metric.name);
    }
}

#[test]
fn no_rule_speaks_of_what_nobody_serves() {
    let served = served();
    let expressions = |text: &str| unknown(text, &served);
    assert_eq!(expressions(&read("deploy/observe/rules.yaml")), Vec::<String>::new());
    assert_eq!(expressions(&read("deploy/observe/rules.test.yaml")), Vec::<String>::new());
    let wrong = "sum(rate(nostr_wait_seconds_bucket[1m])) > nostr_bus_up + haproxy_uptime";
    assert_eq!(expressions(wrong), ["nostr_wait_seconds_bucket", "haproxy_uptime"], "control");
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        page.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-'].contains(c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_alert_links_to_what_to_do() {
    let rules = read("deploy/observe/rules.yaml");
    let alerts = rules.lines().filter(|line| line.trim_start().starts_with("- alert:")).count();
    let links: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: SKEIN_RUNBOOKS/")).collect();
    assert_eq!(links.len(), alerts);
    for link in links {
        let (page, anchor) = link.split_once('#').map_or((link, None), |(page, anchor)| (page, Some(anchor)));
        let text = read(&format!("docs/operations/{page}"));
        assert!(anchor.is_none_or(|anchor| anchors(&text).contains(anchor)), "{link}: no such heading");
    }
    assert!(anchors("# No partition ahead\n").contains("no-partition-ahead"));
}

/// docs/faults.md says by which metric a fault shows, and which alert it raises.
#[test]
fn every_alert_of_a_fault_is_raised_by_its_test() {
    let (faults, rules) = (read("docs/faults.md"), read("deploy/observe/rules.yaml"));
    let tests: Vec<_> = ["cluster", "front"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(workspace().join("relay/tests").join(folder)).unwrap())
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let alerts: BTreeSet<_> = faults
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| word.starts_with("Skein"))
        .collect();
    assert!(alerts.len() >= 7, "{alerts:?}");

    for alert in alerts {
        assert!(rules.contains(&format!("- alert: {alert}\n")), "{alert} is no alert");
        let raised = tests.iter().any(|test| test.contains(&format!("\"{alert}\"")));
        // Named as what a fault does not raise.
        assert!(raised || alert == "SkeinSlow", "no test raises {alert}");
    }

    let metrics = served().into_iter().chain(CATALOGUE.iter().map(|metric| metric.name.to_owned())).collect();
    assert_eq!(unknown(&faults, &metrics), Vec::<String>::new());
}

#[test]
fn every_alert_is_tested_to_fire() {
    let (rules, tests) = (read("deploy/observe/rules.yaml"), read("deploy/observe/rules.test.yaml"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let fires = tests.match_indices(&format!("alertname: {alert}\n")).count();
        assert!(fires > 0, "{alert} has no test in which it fires");
    }
}
