//! The data of the report's charts, which the page and the pictures draw alike.

use super::{Report, Run, RunPercentiles};
use serde::Serialize;

/// The most points of a line: in a longer run a point covers several seconds.
const MOST_POINTS: usize = 600;

/// One chart.
#[derive(Debug, Clone, Serialize)]
pub struct Chart {
    /// The title.
    pub title: String,
    /// The unit of the vertical axis.
    pub unit: &'static str,
    /// The label of the horizontal axis.
    pub across: &'static str,
    /// The points' values on the horizontal axis.
    pub x: Vec<f64>,
    /// The lines.
    pub lines: Vec<Line>,
    /// True when the vertical axis is logarithmic.
    pub logarithmic: bool,
}

/// One line of a chart.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The name in the legend.
    pub name: String,
    /// The values; `None` where nothing was measured.
    pub values: Vec<Option<f64>>,
}

impl Chart {
    /// A chart over seconds.
    pub fn new(title: impl Into<String>, unit: &'static str, x: &[f64], lines: Vec<Line>) -> Self {
        Self { title: title.into(), unit, across: "seconds", x: x.to_vec(), lines, logarithmic: false }
    }

    /// True when no line has a value above 0.
    pub fn is_empty(&self) -> bool {
        self.values().all(|value| value <= 0.0)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.lines.iter().flat_map(|line| line.values.iter().flatten().copied())
    }

    /// Merges neighbouring points, with the greatest value of each line, until at most [`MOST_POINTS`] are left.
    fn thinned(mut self) -> Self {
        let each = self.x.len().div_ceil(MOST_POINTS).max(1);
        if each > 1 {
            self.x = self.x.chunks(each).filter_map(|points| points.last().copied()).collect();
            for line in &mut self.lines {
                let most = |points: &[Option<f64>]| points.iter().flatten().copied().reduce(f64::max);
                line.values = line.values.chunks(each).map(most).collect();
            }
        }
        self
    }
}

fn line(name: &str, values: &[f64]) -> Line {
    Line { name: name.to_owned(), values: values.iter().copied().map(Some).collect() }
}

fn percentiles(title: &str, x: &[f64], of: &RunPercentiles) -> Chart {
    let lines = [("p50", &of.p50), ("p95", &of.p95), ("p99", &of.p99)];
    let lines = lines.map(|(name, values)| Line { name: name.to_owned(), values: values.clone() });
    Chart { logarithmic: true, ..Chart::new(title, "ms", x, lines.into()) }
}

/// The charts of one run, with the names of their pictures. Leaves out empty charts.
pub fn of_run(run: &Run) -> Vec<(&'static str, Chart)> {
    let series = &run.series;
    let x = &series.second;
    let throughput = vec![
        line("delivered", &series.delivered),
        line("accepted", &series.accepted),
        line("answered", &series.answered),
    ];

    let mut cpu =
        vec![line("tester's busiest thread", &series.tester_cpu), line("machine, all cores", &series.machine_cpu)];
    if run.relay.is_some() {
        cpu.push(line("relay, of one core", &series.relay_cpu));
    }

    let charts = [
        ("latency_delivery", percentiles("Latency of deliveries", x, &series.delivery)),
        ("latency_ok", percentiles("Latency of OKs", x, &series.ok)),
        ("latency_query", percentiles("Latency of answers to REQ and COUNT", x, &series.query)),
        ("throughput", Chart { logarithmic: true, ..Chart::new("Throughput", "a second", x, throughput) }),
        ("connections", Chart::new("Connections live", "", x, vec![line("live", &series.live)])),
        ("errors", Chart::new("Errors", "a second", x, vec![line("errors", &series.errors)])),
        ("cpu", Chart::new("CPU", "%", x, cpu)),
    ];
    charts.into_iter().filter(|(_, chart)| !chart.is_empty()).map(|(name, chart)| (name, chart.thinned())).collect()
}

/// Latency and throughput against connections, where a report has several steps.
pub fn of_steps(report: &Report) -> Vec<(&'static str, Chart)> {
    let runs = &report.runs;
    if runs.len() < 2 || runs.iter().any(|run| run.connections == runs[0].connections && run.name != runs[0].name) {
        return Vec::new();
    }
    let x = runs.iter().map(|run| run.connections as f64).collect::<Vec<_>>();
    let latency = |class: &str, figure: &str| Line {
        name: format!("{class} {figure}"),
        values: runs
            .iter()
            .map(|run| run.latency_ms.get(class))
            .map(|summary| summary.map(|summary| if figure == "p50" { summary.p50 } else { summary.p99 }))
            .collect(),
    };

    let lines = ["delivery", "ok", "query"].iter().flat_map(|class| [latency(class, "p50"), latency(class, "p99")]);
    let rate = |name: &str| Line {
        name: name.to_owned(),
        values: runs.iter().map(|run| run.per_second.get(name).copied()).collect(),
    };
    let rates = ["delivered", "accepted", "answered"].map(rate);
    let across = |chart| Chart { across: "connections", logarithmic: true, ..chart };
    vec![
        ("scalability", across(Chart::new("Latency against connections", "ms", &x, lines.collect()))),
        ("scalability_throughput", across(Chart::new("Throughput against connections", "a second", &x, rates.into()))),
    ]
}

/// The charts that both runs have, with the lines of both in one chart, each line named with its run.
pub fn of_both(one: (&str, &Run), other: (&str, &Run)) -> Vec<(&'static str, Chart)> {
    let mut charts = of_run(one.1);
    let others = of_run(other.1);
    charts.retain_mut(|(name, chart)| {
        let Some((_, with)) = others.iter().find(|(other, _)| other == name) else { return false };
        let named = |run: &str, line: &Line| Line { name: format!("{run} {}", line.name), values: line.values.clone() };
        let first = chart.lines.iter().map(|line| named(one.0, line));
        chart.lines = first.chain(with.lines.iter().map(|line| named(other.0, line))).collect();
        if with.x.len() > chart.x.len() {
            chart.x.clone_from(&with.x);
        }
        let length = chart.x.len();
        chart.lines.iter_mut().for_each(|line| line.values.resize(length, None));
        true
    });
    charts
}
