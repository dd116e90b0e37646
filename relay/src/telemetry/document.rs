//! Writes the catalogue as a page of documentation, `docs/metrics.md`.

use super::catalogue::CATALOGUE;
use super::exporter::Exporter;
use super::series::MetricKind;
use metrics_exporter_prometheus::BuildError;
use std::fmt::Write;

const HEAD: &str = "# Metrics\n\n\
    What `/metrics` on the admin listener serves, in the order of travel. Written by `relay metrics`; a test holds it\n\
    against the catalogue, and the catalogue against what a running relay serves. Every series is there from the start,\n\
    as zero; labels have the listed values and no others. A histogram has `_bucket`, `_sum` and `_count`.\n";

/// The page, in Markdown.
///
/// # Errors
/// Fails where the catalogue names a histogram without buckets.
pub fn document() -> Result<String, BuildError> {
    let mut page = HEAD.to_owned();
    let mut station = "";
    for metric in CATALOGUE {
        if metric.station != station {
            station = metric.station;
            section(&mut page, station);
        }
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let unit = metric.unit.as_str().replace('_', " ");
        let mut help = metric.help.trim().to_owned();
        for (label, values) in metric.labels {
            // The version changes with each release, and this page must not.
            let values = if *label == "version" { "that of the program".to_owned() } else { values.join(", ") };
            // Writing to a String cannot fail.
            let _ = write!(help, " `{label}`: {values}.");
        }
        if metric.kind == MetricKind::Histogram {
            let bounds: Vec<_> = metric.buckets.iter().map(f64::to_string).collect();
            let _ = write!(help, " Buckets: {}.", bounds.join(", "));
        }
        row(&mut page, metric.name, kind, &unit, &help);
    }

    section(&mut page, "the process");
    // `metrics-process` describes its own metrics, so these rows come from the rendered text.
    let text = Exporter::new()?.render();
    let family = |line: &str, keyword: &str| {
        let (name, rest) = line.strip_prefix(keyword)?.split_once(' ')?;
        name.starts_with("process_").then(|| (name.to_owned(), rest.to_owned()))
    };
    let mut helps: Vec<_> = text.lines().filter_map(|line| family(line, "# HELP ")).collect();
    helps.sort();
    for (name, help) in helps {
        let kind = text.lines().filter_map(|line| family(line, "# TYPE ")).find(|(typed, _)| *typed == name);
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name.contains(unit)).unwrap_or("count");
        row(&mut page, &name, &kind.unwrap_or_default().1, unit, &help);
    }
    Ok(page)
}

fn section(page: &mut String, station: &str) {
    let _ = write!(page, "\n## {station}\n\n| metric | type | unit | what it tells |\n|---|---|---|---|\n");
}

fn row(page: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {help} |");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = document().unwrap();
        assert!(CATALOGUE.iter().all(|metric| page.contains(&format!("| `{}` |", metric.name))));
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == page, "docs/metrics.md is out of date: cargo run -- metrics > docs/metrics.md");
    }

    #[test]
    fn the_stations_are_those_of_the_journey_in_its_order() {
        let mut stations: Vec<_> = CATALOGUE.iter().map(|metric| metric.station).collect();
        stations.dedup();
        let sorted: std::collections::BTreeSet<_> = stations.iter().collect();
        assert_eq!(stations.len(), sorted.len(), "each station has one section: {stations:?}");
    }
}
