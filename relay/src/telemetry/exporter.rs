//! The recorder behind the handles, and the text that Prometheus scrapes.

use super::catalogue::{CATALOGUE, Metrics};
use super::series::MetricKind;
use metrics::{Recorder, with_local_recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Owns the recorder of the handles, and renders its series.
pub struct Exporter {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: Collector,
    metrics: Arc<Metrics>,
}

impl Exporter {
    /// How often [`upkeep`](Self::upkeep) is due. Until then each sample of a histogram takes 8 bytes of memory.
    pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(2);

    /// An exporter with the metrics of the catalogue, all zero. Fails only if the catalogue names a histogram without
    /// buckets.
    pub fn new() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for metric in CATALOGUE.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)?;
        }
        let recorder = builder.build_recorder();
        for metric in CATALOGUE {
            let (name, help) = (metric.name.into(), metric.help.trim_start().into());
            match metric.kind {
                MetricKind::Counter => recorder.describe_counter(name, Some(metric.unit), help),
                MetricKind::Gauge => recorder.describe_gauge(name, Some(metric.unit), help),
                MetricKind::Histogram => recorder.describe_histogram(name, Some(metric.unit), help),
            }
        }

        let metrics = Arc::new(Metrics::register(&recorder));
        let process = Collector::default();
        with_local_recorder(&recorder, || process.describe());
        Ok(Self { handle: recorder.handle(), recorder, process, metrics })
    }

    /// The handles.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Sorts waiting samples into their buckets, which bounds memory. To be called every
    /// [`UPKEEP_INTERVAL`](Self::UPKEEP_INTERVAL).
    pub fn upkeep(&self) {
        let now = Instant::now();
        self.metrics.events_per_second.update(now);
        self.metrics.notes.forget_old(now);
        self.metrics.tls_expiry.record(&self.recorder);
        self.handle.run_upkeep();
    }

    /// All series as of now, in the text format of Prometheus. Reads a few files in `/proc`.
    pub fn render(&self) -> String {
        with_local_recorder(&self.recorder, || self.process.collect());
        self.upkeep();
        self.handle.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{EventOutcome, Operation};
    use crate::types::{Kind, Refusal};
    use std::collections::{BTreeMap, BTreeSet};

    fn families(text: &str) -> BTreeMap<&str, &str> {
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
    }

    #[test]
    fn the_catalogue_is_what_is_rendered() {
        let text = Exporter::new().unwrap().render();
        let mut families = families(&text);
        // A metric whose label has no fixed values has no series before it is set.
        for metric in CATALOGUE.iter().filter(|metric| metric.labels.iter().all(|(_, values)| !values.is_empty())) {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            assert_eq!(families.remove(metric.name), Some(kind.as_str()), "{}", metric.name);
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help.trim())), "{}", metric.name);
            let of_metric = || text.lines().filter(|line| line.starts_with(metric.name));
            for (label, values) in metric.labels {
                for value in *values {
                    let series = of_metric().any(|line| line.contains(&format!("{label}=\"{value}\"")));
                    assert!(series, "{}{{{label}={value}}} is there from the start", metric.name);
                }
            }
        }

        assert!(families.contains_key("process_resident_memory_bytes"), "{families:?}");
        families.retain(|name, _| !name.starts_with("process_"));
        assert_eq!(families, BTreeMap::new(), "rendered, but not in the catalogue");
    }

    #[test]
    fn names_follow_the_custom_of_prometheus() {
        let mut names = BTreeSet::new();
        for metric in CATALOGUE {
            assert!(metric.name.starts_with("nostr_") && names.insert(metric.name), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter, "{}", metric.name);
            let unit = match metric.unit {
                metrics::Unit::Seconds => "_seconds",
                metrics::Unit::Bytes => "_bytes",
                metrics::Unit::CountPerSecond => "_per_second",
                _ => "",
            };
            assert!(metric.name.trim_end_matches("_total").ends_with(unit), "{}: unit {unit}", metric.name);
            assert!(metric.help.len() > 20 && metric.help.trim_end().ends_with('.'), "{}", metric.name);
            assert_eq!(metric.buckets.is_empty(), metric.kind != MetricKind::Histogram, "{}", metric.name);
            assert!(metric.buckets.is_sorted(), "{}", metric.name);
        }
    }

    #[test]
    fn what_is_counted_is_rendered() {
        let exporter = Exporter::new().unwrap();
        let metrics = exporter.metrics();
        metrics.events.of(EventOutcome::Duplicate).increment(2);
        metrics.refusals.of(&Refusal::KindBlocked(Kind(4))).increment(1);
        metrics.query_latency.of(Operation::Req).record(0.0004);
        metrics.connections_active.set(7);
        metrics.tls_expiry.set_all([("relay.example".to_owned(), 60.0)]);
        let text = exporter.render();
        for line in [
            "nostr_events_total{outcome=\"duplicate\"} 2",
            "nostr_refusals_total{reason=\"kind_blocked\"} 1",
            "nostr_query_latency_seconds_bucket{operation=\"req\",le=\"0.00025\"} 0",
            "nostr_query_latency_seconds_bucket{operation=\"req\",le=\"0.0005\"} 1",
            "nostr_query_latency_seconds_bucket{operation=\"count\",le=\"+Inf\"} 0",
            "nostr_connections_active 7",
            "nostr_tls_certificate_expiry_seconds{name=\"relay.example\"} 60",
            concat!("nostr_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }

        let other = Exporter::new().unwrap().render();
        assert!(other.contains("nostr_connections_active 0"), "two relays in one process do not mix");
    }

    #[test]
    fn a_rate_is_what_came_in_the_time_since_the_last_look() {
        let exporter = Exporter::new().unwrap();
        let rate = &exporter.metrics().events_per_second;
        let start = Instant::now();
        rate.update(start + Duration::from_secs(10));
        (0..30).for_each(|_| rate.increment());
        rate.update(start + Duration::from_millis(10_500));
        assert!(exporter.handle.render().contains("nostr_events_per_second 0\n"), "half a second is too short");
        rate.update(start + Duration::from_secs(13));
        assert!(exporter.handle.render().contains("nostr_events_per_second 10\n"));
    }
}
