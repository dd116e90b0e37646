//! `relay profile`: what a run of the load tester cost the relay, station by station, from the metrics in its report.

use crate::telemetry::{CATALOGUE, Label, Stage};
use anyhow::{Context, ensure};
use clap::{Arg, ArgMatches, Command};
use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn command() -> Command {
    let path = |name: &'static str| Arg::new(name).value_parser(clap::value_parser!(PathBuf));
    Command::new("profile")
        .about("Turn a load tester's report into a page: time of each station, processor, reads, in Markdown")
        .after_help("relay profile run/report.json > before.md; then relay profile new/report.json --before run/report.json > after.md")
        .arg(path("report").required(true).help("A report.json whose run was told the relay's /metrics"))
        .arg(path("before").long("before").help("An earlier report, to compare with"))
}

pub(super) fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let report = arguments.get_one::<PathBuf>("report").context("which report?")?;
    let now = Figures::read(report)?;
    let before = arguments.get_one::<PathBuf>("before").map(|path| Figures::read(path)).transpose()?;
    print!("{}", page(&now, before.as_ref()));
    Ok(ExitCode::SUCCESS)
}

/// How much each series grew over a run, by name and labels.
struct Figures(Vec<(String, f64)>);

/// A row: what it is, its unit, its number where there is one.
type Figure = (String, &'static str, Option<f64>);

impl Figures {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let report: Value = serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))?;
        let figures = Self::of(&report);
        ensure!(
            !figures.0.is_empty(),
            "{} has no metrics of the relay: give the load tester the relay's /metrics",
            path.display()
        );
        Ok(figures)
    }

    fn of(report: &Value) -> Self {
        let runs = report.get("runs").and_then(Value::as_array).into_iter().flatten();
        let metrics = runs.flat_map(|run| run.get("metrics").and_then(Value::as_array).into_iter().flatten());
        let growth = |metric: &Value| {
            let number = |key: &str| metric.get(key).and_then(Value::as_f64);
            Some((metric.get("name")?.as_str()?.to_owned(), number("after")? - number("before")?))
        };
        Self(metrics.filter_map(growth).collect())
    }

    /// The growth of all series of a metric, its name without `nostr_`, that have the label, where one is given.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let of_process = name.starts_with("process_");
        let name = if of_process { name.to_owned() } else { format!("nostr_{name}") };
        let family = name.trim_end_matches("_count").trim_end_matches("_sum");
        debug_assert!(of_process || CATALOGUE.iter().any(|metric| metric.name == family), "{name} is no metric");
        let of_name = |series: &str| series.split('{').next() == Some(name.as_str()) && series.contains(label);
        self.0.iter().filter(|(series, _)| of_name(series)).map(|(_, growth)| growth).sum()
    }

    /// The mean of what a histogram recorded, in milliseconds.
    fn mean(&self, name: &str, label: &str) -> Option<f64> {
        let count = self.sum(&format!("{name}_count"), label);
        (count > 0.0).then(|| self.sum(&format!("{name}_sum"), label) / count * 1e3)
    }

    fn reqs(&self) -> f64 {
        self.sum("messages_total", "type=\"req\"")
    }

    /// Reads beyond one for each filter, for each REQ.
    fn rereads_per_req(&self) -> f64 {
        let reqs = self.reqs();
        if reqs > 0.0 { self.sum("store_rereads_total", "") / reqs } else { 0.0 }
    }

    fn all(&self) -> Vec<Figure> {
        let mut all: Vec<Figure> = Vec::new();
        for stage in Stage::VALUES {
            let mean = self.mean("stage_seconds", &format!("stage=\"{stage}\""));
            all.push((format!("{stage}, mean"), "ms", mean));
        }
        for (words, name, label) in [
            ("EVENT to OK, mean", "query_latency_seconds", "operation=\"event\""),
            ("REQ to EOSE, mean", "query_latency_seconds", "operation=\"req\""),
            ("signature, mean", "signature_seconds", ""),
            ("commit, mean", "commit_seconds", ""),
            ("read in the store, mean", "store_read_seconds", ""),
            ("fan-out lag, mean", "fanout_seconds", ""),
        ] {
            all.push((words.to_owned(), "ms", self.mean(name, label)));
        }
        let per = |amount: f64, by: f64| (by > 0.0).then(|| amount / by);
        let cpu = self.sum("process_cpu_seconds_total", "");
        let (accepted, delivered) =
            (self.sum("events_total", "outcome=\"accepted\""), self.sum("deliveries_total", ""));
        let reads = self.sum("store_read_seconds_count", "");
        let commits = self.sum("commit_seconds_count", "");
        let candidates = self.sum("matcher_candidates_total", "");
        all.extend([
            ("processor".to_owned(), "s", Some(cpu)),
            ("processor, each accepted event".to_owned(), "µs", per(cpu * 1e6, accepted)),
            ("processor, each delivery".to_owned(), "µs", per(cpu * 1e6, delivered)),
            ("processor, each REQ".to_owned(), "µs", per(cpu * 1e6, self.reqs())),
            ("database reads, each REQ or COUNT".to_owned(), "", per(reads, self.reqs() + self.counts())),
            ("of them beyond one a filter, each REQ".to_owned(), "", Some(self.rereads_per_req())),
            ("events, each commit".to_owned(), "", per(accepted, commits)),
            ("filters looked at, each hit".to_owned(), "", per(candidates, self.sum("matcher_hits_total", ""))),
            ("refusals".to_owned(), "", Some(self.sum("refusals_total", ""))),
            ("subscriptions that fell behind".to_owned(), "", Some(self.sum("slow_clients_total", ""))),
            ("memory, growth".to_owned(), "MiB", Some(self.sum("process_resident_memory_bytes", "") / 1_048_576.0)),
        ]);
        all
    }

    fn counts(&self) -> f64 {
        self.sum("messages_total", "type=\"count\"")
    }
}

fn page(now: &Figures, before: Option<&Figures>) -> String {
    let mut page =
        "# Profile\n\nWhat the run cost the relay, from its own metrics. Where several did the same work, all of it \
        together counts: \"each delivery\" divides the whole processor time by the deliveries.\n\n"
            .to_owned();
    page.push_str(match before {
        None => "| figure | unit | value |\n|---|---|---:|\n",
        Some(_) => "| figure | unit | before | after | ratio |\n|---|---|---:|---:|---:|\n",
    });
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
    let earlier = before.map(Figures::all);
    for (at, (name, unit, value)) in now.all().into_iter().enumerate() {
        // Writing into a text cannot fail.
        let _ = match earlier.as_ref().and_then(|earlier| earlier.get(at)) {
            None => writeln!(page, "| {name} | {unit} | {} |", number(value)),
            Some((_, _, old)) => {
                let ratio = value.zip(*old).filter(|(_, old)| *old != 0.0).map(|(value, old)| value / old);
                writeln!(page, "| {name} | {unit} | {} | {} | {} |", number(*old), number(value), number(ratio))
            }
        };
    }
    let rereads = now.rereads_per_req();
    if rereads > 0.0 {
        let _ = write!(
            page,
            "\n**REQs made more reads than they have filters**: {rereads:.4} more each, on average. Their rows were too few \
             after removals, or older than the ring.\n"
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn figures(rereads: f64) -> Figures {
        let metric = |name: &str, before: f64, after: f64| json!({ "name": name, "before": before, "after": after });
        Figures::of(&json!({ "runs": [{ "metrics": [
            metric("nostr_messages_total{type=\"req\"}", 10.0, 110.0),
            metric("nostr_store_read_seconds_count", 0.0, 200.0),
            metric("nostr_store_read_seconds_sum", 0.0, 0.4),
            metric("nostr_store_rereads_total", 0.0, rereads),
            metric("nostr_stage_seconds_sum{stage=\"event_commit\"}", 1.0, 2.0),
            metric("nostr_stage_seconds_count{stage=\"event_commit\"}", 0.0, 100.0),
            metric("process_cpu_seconds_total", 1.0, 3.0),
            metric("nostr_deliveries_total", 0.0, 1000.0),
        ] }] }))
    }

    #[test]
    fn figures_are_those_of_the_run() {
        let page = page(&figures(0.0), None);
        for row in [
            "| event_commit, mean | ms | 10.000 |",
            "| read in the store, mean | ms | 2.000 |",
            "| processor, each delivery | µs | 2000.000 |",
            "| database reads, each REQ or COUNT |  | 2.000 |",
            "| event_verify, mean | ms | – |",
        ] {
            assert!(page.contains(row), "{row} in {page}");
        }
        assert!(!page.contains("more reads"));
    }

    #[test]
    fn reads_beyond_one_a_filter_are_called_out_and_runs_compared() {
        let page = page(&figures(25.0), Some(&figures(50.0)));
        assert!(page.contains("0.2500 more each"), "{page}");
        assert!(page.contains("| of them beyond one a filter, each REQ |  | 0.500 | 0.250 | 0.500 |"), "{page}");
    }
}
