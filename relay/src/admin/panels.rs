//! The charts of the dashboard: which series of `/metrics` make which line. A test checks them against the catalogue.

use serde::Serialize;

/// One chart.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Panel {
    /// The name by which the page's script knows it.
    pub(super) id: &'static str,
    /// The heading of the chart.
    pub(super) title: &'static str,
    /// The station whose part of the page shows it.
    pub(super) station: &'static str,
    /// The format of its numbers: `count`, `rate`, `seconds`, `bytes` or `ratio`.
    pub(super) unit: &'static str,
    /// The lines; where the page compares instances, it shows the first line of each.
    pub(super) lines: &'static [ChartLine],
}

/// One line of a chart.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct ChartLine {
    /// The name in the legend.
    pub(super) label: &'static str,
    /// Where its numbers come from.
    #[serde(skip)]
    pub(super) source: ChartSource,
}

/// How a point is computed from metrics.
#[derive(Debug, Clone, Copy)]
pub(super) enum ChartSource {
    /// The sum of these series.
    Now(MetricSeries),
    /// The growth a second of the sum of these series.
    Rate(MetricSeries),
    /// The quantile, for this share, of the values recorded since the last point.
    Quantile(MetricSeries, f64),
    /// The growth of the first divided by the growth of the second.
    Per(MetricSeries, MetricSeries),
}

/// The series of a metric; with a label, only those with that value.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricSeries {
    pub(super) metric: &'static str,
    pub(super) label: Option<(&'static str, &'static str)>,
}

#[cfg(test)]
impl ChartSource {
    /// The series that it is computed from.
    pub(super) fn series(&self) -> impl Iterator<Item = MetricSeries> {
        let (one, other) = match *self {
            Self::Now(one) | Self::Rate(one) | Self::Quantile(one, _) => (one, None),
            Self::Per(one, other) => (one, Some(other)),
        };
        std::iter::once(one).chain(other)
    }
}

macro_rules! series {
    ($metric:literal) => {
        MetricSeries { metric: concat!("nostr_", $metric), label: None }
    };
    (process $metric:literal) => {
        MetricSeries { metric: concat!("process_", $metric), label: None }
    };
    ($metric:literal, $label:literal = $value:literal) => {
        MetricSeries { metric: concat!("nostr_", $metric), label: Some(($label, $value)) }
    };
}

macro_rules! panels {
    ($($id:ident $title:literal $station:literal $unit:ident { $($label:literal: $how:ident($($what:tt)+) $(@ $share:literal)? $(/ ($($by:tt)+))?;)+ })+) => {
        &[$(Panel {
            id: stringify!($id),
            title: $title,
            station: $station,
            unit: stringify!($unit),
            lines: &[$(ChartLine {
                label: $label,
                source: ChartSource::$how(series!($($what)+) $(, $share)? $(, series!($($by)+))?),
            }),+],
        }),+]
    };
}

/// Every chart, in the order of the page.
pub(super) const PANELS: &[Panel] = panels! {
    events "Events published" "ingest" rate {
        "accepted": Rate("events_total", "outcome" = "accepted");
        "duplicate": Rate("events_total", "outcome" = "duplicate");
        "refused": Rate("events_total", "outcome" = "refused");
    }
    requests "Messages from clients" "message" rate {
        "REQ": Rate("messages_total", "type" = "req");
        "EVENT": Rate("messages_total", "type" = "event");
        "COUNT": Rate("messages_total", "type" = "count");
        "AUTH": Rate("messages_total", "type" = "auth");
        "invalid": Rate("messages_total", "type" = "invalid");
    }
    answers "Time to EOSE" "query" seconds {
        "p95": Quantile("query_latency_seconds", "operation" = "req") @ 0.95;
        "p50": Quantile("query_latency_seconds", "operation" = "req") @ 0.5;
        "p99": Quantile("query_latency_seconds", "operation" = "req") @ 0.99;
    }
    oks "Time to OK" "ingest" seconds {
        "p95": Quantile("query_latency_seconds", "operation" = "event") @ 0.95;
        "p50": Quantile("query_latency_seconds", "operation" = "event") @ 0.5;
        "p99": Quantile("query_latency_seconds", "operation" = "event") @ 0.99;
    }
    connections "Connections" "connection" count {
        "open": Now("connections_active");
    }
    subscriptions "Subscriptions" "connection" count {
        "open": Now("subscriptions_active");
        "distinct filters": Now("matcher_filters");
    }
    refusals "Turned away" "connection" rate {
        "refusals": Rate("refusals_total");
        "shed": Rate("shed_total");
        "slow clients": Rate("slow_clients_total");
        "address full": Rate("connections_total", "outcome" = "address_full");
        "broken handshakes": Rate("connections_total", "outcome" = "handshake");
    }
    fanout "Fan-out lag" "connection" seconds {
        "p99": Quantile("fanout_seconds") @ 0.99;
        "p50": Quantile("fanout_seconds") @ 0.5;
    }
    traffic "Traffic" "connection" bytes {
        "sent /s": Rate("sent_bytes_total");
        "received /s": Rate("received_bytes_total");
    }
    queues "Queues" "ingest" count {
        "admit": Now("admit_queue_events");
        "verify": Now("verify_queue_events");
        "write": Now("ingest_queue_events");
        "follow": Now("follow_queue_batches");
        "queries": Now("queries_active");
    }
    stages "An event's stages, p95" "ingest" seconds {
        "commit": Quantile("stage_seconds", "stage" = "event_commit") @ 0.95;
        "queue": Quantile("stage_seconds", "stage" = "event_queue") @ 0.95;
        "admit": Quantile("stage_seconds", "stage" = "event_admit") @ 0.95;
        "verify": Quantile("stage_seconds", "stage" = "event_verify") @ 0.95;
        "write queue": Quantile("stage_seconds", "stage" = "event_write_queue") @ 0.95;
    }
    signatures "Signatures" "verify" rate {
        "checked": Rate("signature_seconds");
    }
    reads "Reads in the store" "query" rate {
        "reads": Rate("store_read_seconds");
        "read again": Rate("store_rereads_total");
        "errors": Rate("store_errors_total");
    }
    read_time "Time of a read" "query" seconds {
        "p95": Quantile("store_read_seconds") @ 0.95;
        "p50": Quantile("store_read_seconds") @ 0.5;
        "p99": Quantile("store_read_seconds") @ 0.99;
    }
    deliveries "Live deliveries" "matcher" rate {
        "delivered": Rate("deliveries_total");
        "ephemeral dropped": Rate("ephemeral_dropped_total");
    }
    candidates "Filters looked at for each hit" "matcher" count {
        "candidates": Per("matcher_candidates_total") / ("matcher_hits_total");
    }
    log "Log" "log" rate {
        "positions": Rate("log_entries_total");
        "repairs": Rate("log_repairs_total");
    }
    behind "Behind the log" "log" count {
        "this instance": Now("log_behind_positions");
        "replicas": Now("replica_lag_positions");
    }
    pool "Database connections" "store" count {
        "open": Now("database_connections");
        "idle": Now("database_connections_idle");
        "waiting": Now("database_waiting");
    }
    commits "Time of a commit" "store" seconds {
        "p95": Quantile("commit_seconds") @ 0.95;
        "p50": Quantile("commit_seconds") @ 0.5;
        "p99": Quantile("commit_seconds") @ 0.99;
    }
    processor "Processor" "machine" ratio {
        "cores used": Now("cpu_cores");
        "threads busy": Now("runtime_busy_ratio");
    }
    memory "Memory" "machine" bytes {
        "resident": Now(process "resident_memory_bytes");
        "allocated": Now("allocated_bytes");
        "held for clients": Now("client_bytes");
        "may be held": Now("client_limit_bytes");
        "ring": Now("ring_bytes");
    }
    disk "Disk" "machine" bytes {
        "free": Now("disk_free_bytes");
    }
    lateness "Lateness of tasks" "machine" seconds {
        "late": Now("runtime_lateness_seconds");
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{CATALOGUE, Exporter, MetricKind};

    #[test]
    fn every_line_is_of_a_metric_that_is_there() {
        let text = Exporter::new().unwrap().render();
        for panel in PANELS {
            for ChartLine { label, source } in panel.lines {
                for MetricSeries { metric, label: wanted } in source.series() {
                    if metric.starts_with("process_") {
                        assert!(text.contains(&format!("# TYPE {metric} ")), "{metric}");
                        continue;
                    }
                    let known = CATALOGUE.iter().find(|known| known.name == metric);
                    let known = known.unwrap_or_else(|| panic!("{}: {metric} is no metric", panel.id));
                    let quantile = matches!(source, ChartSource::Quantile(..));
                    assert!(!quantile || known.kind == MetricKind::Histogram, "{}: {label}", panel.id);
                    assert!(
                        known.kind != MetricKind::Gauge || matches!(source, ChartSource::Now(_)),
                        "{}: {label}",
                        panel.id
                    );

                    if let Some((name, value)) = wanted {
                        let fits = known.labels.iter().any(|(label, all)| *label == name && all.contains(&value));
                        assert!(fits, "{}: {metric} has no {name}={value}", panel.id);
                    }
                }
            }
        }
    }

    #[test]
    fn panels_are_told_apart() {
        let mut ids: Vec<_> = PANELS.iter().map(|panel| panel.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), PANELS.len());
    }
}
