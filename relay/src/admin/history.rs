//! The points of the dashboard's charts over the last quarter of an hour, so that a page shows the past as soon as it
//! is opened.

use super::panels::{ChartSource, MetricSeries, PANELS};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How many points are kept: a quarter of an hour with one point every 2 s.
const MAX_POINTS: usize = 450;
/// The shortest time between two points. A snapshot that comes sooner is dropped: rates over less jump too much.
const MIN_STEP: Duration = Duration::from_millis(500);

/// Points of every line of every panel.
#[derive(Debug, Default)]
pub(super) struct ChartHistory(Mutex<RecordedPoints>);

#[derive(Debug, Default)]
struct RecordedPoints {
    points: VecDeque<Point>,
    last: Option<(Instant, Vec<LineReading>)>,
}

#[derive(Debug)]
struct Point {
    /// In milliseconds since 1970.
    at: u64,
    values: Vec<Option<f64>>,
}

/// The values of one line's metrics in one snapshot.
#[derive(Debug, Clone, PartialEq)]
enum LineReading {
    Number(f64),
    Pair(f64, f64),
    /// Upper bounds in ascending order, and how many values are below each.
    Buckets(Vec<(f64, f64)>),
}

impl ChartHistory {
    /// Adds a point from `text`, which `/metrics` has served at `at` (milliseconds since 1970).
    pub(super) fn record(&self, text: &str, at: u64, now: Instant) {
        let mut recorded = self.0.lock();
        if recorded.last.as_ref().is_some_and(|(last, _)| now.saturating_duration_since(*last) < MIN_STEP) {
            return;
        }
        let samples = samples(text);
        let readings: Vec<_> = lines().map(|source| read(source, &samples)).collect();
        if let Some((last, before)) = &recorded.last {
            let seconds = now.saturating_duration_since(*last).as_secs_f64();
            let value = |((source, before), after)| value(source, before, after, seconds);
            let values = lines().zip(before).zip(&readings).map(value).collect();
            recorded.points.push_back(Point { at, values });
            if recorded.points.len() > MAX_POINTS {
                recorded.points.pop_front();
            }
        }
        recorded.last = Some((now, readings));
    }

    /// The points after `since` (milliseconds since 1970): their times, and the values of each line of each panel. A
    /// value is null where nothing was recorded.
    pub(super) fn since(&self, since: u64) -> Value {
        let recorded = self.0.lock();
        let points: Vec<_> = recorded.points.iter().filter(|point| point.at > since).collect();
        let times: Vec<_> = points.iter().map(|point| point.at).collect();

        // A point has the values of all lines of all panels, one after another.
        let mut at = 0;
        let mut of_panel = |lines: usize| {
            let values = |line| points.iter().map(|point| point.values.get(line).copied().flatten()).collect();
            let values: Vec<Vec<Option<f64>>> = (at..at + lines).map(values).collect();
            at += lines;
            values
        };
        let panels: serde_json::Map<_, _> =
            PANELS.iter().map(|panel| (panel.id.to_owned(), json!(of_panel(panel.lines.len())))).collect();
        json!({ "times": times, "panels": panels })
    }
}

fn lines() -> impl Iterator<Item = &'static ChartSource> {
    PANELS.iter().flat_map(|panel| panel.lines).map(|line| &line.source)
}

/// A sample's labels and its value.
type LabelledValue<'a> = (&'a str, f64);

/// Parses the samples of `/metrics`, by metric.
fn samples(text: &str) -> HashMap<&str, Vec<LabelledValue<'_>>> {
    let mut samples: HashMap<_, Vec<_>> = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        if let Ok(value) = value.parse() {
            samples.entry(name).or_default().push((labels, value));
        }
    }
    samples
}

fn read(source: &ChartSource, samples: &HashMap<&str, Vec<LabelledValue<'_>>>) -> LineReading {
    match source {
        ChartSource::Now(series) | ChartSource::Rate(series) => LineReading::Number(sum(series, samples)),
        ChartSource::Per(one, other) => LineReading::Pair(sum(one, samples), sum(other, samples)),
        ChartSource::Quantile(series, _) => {
            let name = format!("{}_bucket", series.metric);
            let mut buckets = Vec::new();
            for (labels, count) in of(series, samples.get(name.as_str())) {
                let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
                let bound = bound.map_or(f64::INFINITY, |bound| bound.parse().unwrap_or(f64::INFINITY));
                buckets.push((bound, count));
            }
            LineReading::Buckets(buckets)
        }
    }
}

/// The sum of a metric's series; for a histogram, the number of recorded values.
fn sum(series: &MetricSeries, samples: &HashMap<&str, Vec<LabelledValue<'_>>>) -> f64 {
    let found = samples.get(series.metric).or_else(|| samples.get(format!("{}_count", series.metric).as_str()));
    of(series, found).map(|(_, value)| value).sum()
}

fn of<'a>(
    series: &MetricSeries,
    samples: Option<&'a Vec<LabelledValue<'a>>>,
) -> impl Iterator<Item = LabelledValue<'a>> {
    let wanted = series.label.map(|(name, value)| format!("{name}=\"{value}\""));
    let fits =
        move |(labels, _): &LabelledValue<'_>| wanted.as_ref().is_none_or(|wanted| labels.contains(wanted.as_str()));
    samples.into_iter().flatten().copied().filter(fits)
}

fn value(source: &ChartSource, before: &LineReading, after: &LineReading, seconds: f64) -> Option<f64> {
    match (source, before, after) {
        (ChartSource::Now(_), _, LineReading::Number(now)) => Some(*now),
        (ChartSource::Rate(_), LineReading::Number(before), LineReading::Number(after)) => {
            Some((after - before).max(0.0) / seconds)
        }
        (ChartSource::Per(..), LineReading::Pair(one, other), LineReading::Pair(one_now, other_now)) => {
            let by = other_now - other;
            (by > 0.0).then(|| (one_now - one) / by)
        }
        (ChartSource::Quantile(_, share), LineReading::Buckets(before), LineReading::Buckets(after)) => {
            quantile(before, after, *share)
        }
        _ => None,
    }
}

/// The quantile of the values recorded between two snapshots, interpolated linearly within its bucket. `None` where no
/// value was recorded; the last bound where the quantile is beyond it.
fn quantile(before: &[(f64, f64)], after: &[(f64, f64)], share: f64) -> Option<f64> {
    let came = |at: usize| Some(after.get(at)?.1 - before.get(at).map_or(0.0, |bucket| bucket.1));
    let rank = share * came(after.len().checked_sub(1)?)?;
    if rank <= 0.0 {
        return None;
    }
    let (mut lower, mut below) = (0.0, 0.0);
    for (at, (bound, _)) in after.iter().enumerate() {
        let upto = came(at)?;
        if upto >= rank {
            let inside = (rank - below) / (upto - below);
            return Some(if bound.is_finite() { lower + (bound - lower) * inside } else { lower });
        }
        (lower, below) = (*bound, upto);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{EventOutcome, Exporter, Operation};

    #[test]
    fn what_was_counted_is_drawn() {
        let (exporter, history, start) = (Exporter::new().unwrap(), ChartHistory::default(), Instant::now());
        let metrics = exporter.metrics();
        history.record(&exporter.render(), 1_000, start);
        metrics.events.of(EventOutcome::Accepted).increment(30);
        metrics.connections_active.set(7);
        (0..100).for_each(|_| metrics.query_latency.of(Operation::Req).record(0.003));
        metrics.query_latency.of(Operation::Event).record(100.0);
        metrics.matcher_candidates.increment(6);
        metrics.matcher_hits.increment(4);
        history.record(&exporter.render(), 3_000, start + Duration::from_secs(2));
        history.record(&exporter.render(), 3_001, start + Duration::from_millis(2_001));
        history.record(&exporter.render(), 5_000, start + Duration::from_secs(4));
        let drawn = history.since(0);
        assert_eq!(drawn["times"], json!([3_000, 5_000]), "two snapshots at once are one point");
        let panels = &drawn["panels"];
        assert_eq!(panels["events"][0], json!([15.0, 0.0]));
        assert_eq!(panels["events"][1], json!([0.0, 0.0]), "other outcomes are other lines");
        assert_eq!(panels["connections"][0], json!([7.0, 7.0]));
        assert_eq!(panels["candidates"][0], json!([1.5, null]));
        let p50 = panels["answers"][1][0].as_f64().unwrap();
        assert!((0.001..0.005).contains(&p50), "{p50}");
        assert_eq!(panels["answers"][1][1], Value::Null, "nothing came");
        assert_eq!(panels["oks"][0][0], json!(10.0), "beyond the last bound");
        assert_eq!(history.since(3_000)["times"], json!([5_000]));
        assert_eq!(history.since(5_000)["times"], json!([]));
    }

    #[test]
    fn memory_is_bounded() {
        let (history, start) = (ChartHistory::default(), Instant::now());
        for second in 0..2 * MAX_POINTS as u64 {
            history.record("nostr_connections_active 1\n", second * 1_000, start + Duration::from_secs(second));
        }
        assert_eq!(history.0.lock().points.len(), MAX_POINTS);
    }
}
