//! Grafana's dashboard, drawn from the catalogue: an overview row, then one row a station.

use metrics::Unit;
use relay::telemetry::{CATALOGUE, Metric, MetricKind};
use serde_json::{Value, json};

const SELECTED: &str = r#"{instance=~"$instance"}"#;
/// Panels in one line of Grafana's 24 columns.
const ABREAST: usize = 3;
const HEIGHT: usize = 7;

/// The overview row: title, unit, and pairs of legend and expression.
type Glance = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
const AT_A_GLANCE: &[Glance] = &[
    (
        "Slowest answer of 95 %",
        "s",
        &[(
            "{{operation}}",
            r#"histogram_quantile(0.95, sum by (le, operation) (rate(nostr_query_latency_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#,
        )],
    ),
    (
        "Events",
        "ops",
        &[("{{outcome}}", r#"sum by (outcome) (rate(nostr_events_total{instance=~"$instance"}[$__rate_interval]))"#)],
    ),
    (
        "What is refused",
        "ops",
        &[(
            "{{reason}}",
            r#"sum by (reason) (rate(nostr_refusals_total{instance=~"$instance"}[$__rate_interval])) > 0"#,
        )],
    ),
    ("Connections", "short", &[("{{instance}}", r#"nostr_connections_active{instance=~"$instance"}"#)]),
    (
        "How far behind",
        "short",
        &[
            ("{{instance}}, behind the log", r#"nostr_log_behind_positions{instance=~"$instance"}"#),
            ("replicas, as {{instance}} sees them", r#"nostr_replica_lag_positions{instance=~"$instance"}"#),
        ],
    ),
    ("Who answers", "short", &[("{{job}} {{instance}}", r#"up{job=~"skein.*"}"#)]),
];

/// The whole dashboard, as a file.
pub(crate) fn draw() -> String {
    let mut sheet = Sheet::default();
    sheet.row("at a glance");
    for (title, unit, queries) in AT_A_GLANCE {
        let queries: Vec<_> =
            queries.iter().map(|(legend, query)| ((*legend).to_owned(), (*query).to_owned())).collect();
        sheet.panel(title, "", unit, &queries);
    }

    let mut station = "";
    for metric in CATALOGUE {
        if metric.station != station {
            station = metric.station;
            sheet.row(station);
        }
        sheet.panel(&title(metric), metric.help.trim(), unit(metric), &queries(metric));
    }

    let variable = |name: &str, kind: &str| json!({"name": name, "type": kind, "label": name});
    let mut source = variable("datasource", "datasource");
    source["query"] = json!("prometheus");
    let mut instance = variable("instance", "query");
    instance["datasource"] = json!({"type": "prometheus", "uid": "${datasource}"});
    instance["query"] = json!("label_values(nostr_build_info, instance)");
    for (key, value) in
        [("multi", json!(true)), ("includeAll", json!(true)), ("allValue", json!(".*")), ("refresh", json!(2))]
    {
        instance[key] = value;
    }

    let dashboard = json!({
        "title": "Skein",
        "uid": "skein",
        "tags": ["nostr", "skein"],
        "schemaVersion": 37,
        "editable": true,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source, instance]},
        "panels": sheet.panels,
    });
    serde_json::to_string_pretty(&dashboard).unwrap() + "\n"
}

#[derive(Default)]
struct Sheet {
    panels: Vec<Value>,
    /// Where the next panel goes, and how many are in its line.
    y: usize,
    abreast: usize,
}

impl Sheet {
    fn row(&mut self, title: &str) {
        self.end_line();
        let place = json!({"x": 0, "y": self.y, "w": 24, "h": 1});
        self.panels.push(json!({
            "id": self.panels.len() + 1, "type": "row", "title": title, "collapsed": false, "gridPos": place, "panels": [],
        }));
        self.y += 1;
    }

    fn end_line(&mut self) {
        if self.abreast > 0 {
            (self.y, self.abreast) = (self.y + HEIGHT, 0);
        }
    }

    fn panel(&mut self, title: &str, help: &str, unit: &str, queries: &[(String, String)]) {
        let width = 24 / ABREAST;
        let targets: Vec<_> = queries
            .iter()
            .zip('A'..)
            .map(|((legend, query), name)| json!({"refId": name.to_string(), "expr": query, "legendFormat": legend}))
            .collect();
        self.panels.push(json!({
            "id": self.panels.len() + 1,
            "type": "timeseries",
            "title": title,
            "description": help,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "gridPos": {"x": self.abreast * width, "y": self.y, "w": width, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": targets,
        }));

        self.abreast += 1;
        if self.abreast == ABREAST {
            self.end_line();
        }
    }
}

/// `nostr_query_latency_seconds` becomes `query latency`.
fn title(metric: &Metric) -> String {
    let name = metric.name.trim_start_matches("nostr_").trim_end_matches("_total");
    let name = name.trim_end_matches("_seconds").trim_end_matches("_bytes");
    name.replace('_', " ")
}

/// Grafana's name of the unit.
fn unit(metric: &Metric) -> &'static str {
    match (metric.kind, metric.unit) {
        (MetricKind::Counter, Unit::Bytes) => "Bps",
        (MetricKind::Counter, _) | (_, Unit::CountPerSecond) => "ops",
        (_, Unit::Bytes) => "bytes",
        (_, Unit::Seconds) => "s",
        _ => "short",
    }
}

/// Pairs of legend and expression.
fn queries(metric: &Metric) -> Vec<(String, String)> {
    let (name, labels) = (metric.name, metric.labels.iter().map(|(label, _)| *label));
    let by: Vec<_> = labels.collect();
    let legend = by.iter().map(|label| format!("{{{{{label}}}}}")).collect::<Vec<_>>().join(" ");
    match metric.kind {
        MetricKind::Gauge if by.is_empty() => vec![("{{instance}}".to_owned(), format!("{name}{SELECTED}"))],
        MetricKind::Gauge => vec![(format!("{{{{instance}}}} {legend}"), format!("{name}{SELECTED}"))],
        MetricKind::Counter => {
            let (by, legend) = if by.is_empty() {
                ("instance".to_owned(), "{{instance}}".to_owned())
            } else {
                (by.join(", "), legend)
            };
            vec![(legend, format!("sum by ({by}) (rate({name}{SELECTED}[$__rate_interval]))"))]
        }
        MetricKind::Histogram => {
            let by = [&["le"][..], &by].concat().join(", ");
            let quantile = |percent: u32| {
                let rate = format!("sum by ({by}) (rate({name}_bucket{SELECTED}[$__rate_interval]))");
                (
                    format!("p{percent} {legend}").trim().to_owned(),
                    format!("histogram_quantile(0.{percent:02}, {rate})"),
                )
            };
            [50, 95, 99].map(quantile).to_vec()
        }
    }
}
