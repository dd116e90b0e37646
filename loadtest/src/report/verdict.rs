//! The verdict on a run: first its correctness, then the operator's thresholds.

use super::{Run, Verdict};
use std::fmt;
use std::str::FromStr;

/// A condition under which a run has failed: `p95(delivery)>100ms`, `lost>0`, `rate(ok)<90`.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    text: String,
    figure: Figure,
    greater: bool,
    inclusive: bool,
    /// The bound; in milliseconds for latencies.
    bound: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum Figure {
    /// A field of a summary, and the name of the latency.
    Latency(&'static str, String),
    /// A count a second.
    Rate(String),
    /// A sum of the ledger or of the counts.
    Count(String),
}

const LATENCY_FIGURES: [&str; 6] = ["mean", "p50", "p95", "p99", "p999", "max"];

/// The text is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no condition: write FIGURE(WHAT)>VALUE with mean, p50, p95, p99, p999, max or rate, as in \
         p95(delivery)>100ms or rate(accepted)<90, or NAME>NUMBER with a name from the report's ledger, as in lost>0"
)]
pub struct ThresholdError(String);

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let text = text.split_whitespace().collect::<String>();
            let at = text.find(['<', '>'])?;
            let (figure, rest) = text.split_at(at);
            let greater = rest.starts_with('>');
            let inclusive = rest[1..].starts_with('=');
            let value = &rest[1 + usize::from(inclusive)..];
            let unit = value.find(|char: char| char.is_ascii_alphabetic()).unwrap_or(value.len());
            let (number, unit) = value.split_at(unit);
            let number = number.parse::<f64>().ok()?;
            let (figure, bound) = match figure.split_once('(') {
                Some((name, what)) => {
                    let what = what.strip_suffix(')')?.to_owned();
                    if name == "rate" {
                        (Figure::Rate(what), Some(number).filter(|_| unit.is_empty())?)
                    } else {
                        let name = LATENCY_FIGURES.into_iter().find(|known| *known == name)?;
                        let millis = match unit {
                            "us" => 0.001,
                            "ms" => 1.0,
                            "s" => 1_000.0,
                            _ => return None,
                        };
                        (Figure::Latency(name, what), number * millis)
                    }
                }
                None if !figure.is_empty() && unit.is_empty() => (Figure::Count(figure.to_owned()), number),
                None => return None,
            };
            Some(Self { text: text.clone(), figure, greater, inclusive, bound })
        };
        parse().ok_or_else(|| ThresholdError(text.to_owned()))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Threshold {
    /// The run's figure when it is beyond the threshold, or the remark that nothing of the kind was measured.
    fn missed(&self, run: &Run) -> Option<String> {
        let value = match &self.figure {
            Figure::Latency(figure, what) => run.latency_ms.get(what).map(|summary| match *figure {
                "mean" => summary.mean,
                "p50" => summary.p50,
                "p95" => summary.p95,
                "p99" => summary.p99,
                "p999" => summary.p999,
                _ => summary.max,
            }),
            Figure::Rate(what) => run.per_second.get(what).copied(),
            Figure::Count(what) => count(run, what),
        };
        let Some(value) = value else { return Some("was not measured".to_owned()) };
        let over = if self.greater { value > self.bound } else { value < self.bound };
        (over || self.inclusive && value == self.bound).then(|| format!("is {value:.2}"))
    }
}

fn count(run: &Run, name: &str) -> Option<f64> {
    let field = |value: serde_json::Value| value.get(name).and_then(serde_json::Value::as_f64);
    let in_ledger = serde_json::to_value(run.ledger).ok().and_then(field);
    in_ledger.or_else(|| serde_json::to_value(run.counts).ok().and_then(field))
}

/// Judges all runs of a report.
pub fn judge(runs: &[Run], thresholds: &[Threshold]) -> Verdict {
    let mut verdict = Verdict::default();
    for run in runs {
        let faults = run.ledger.faults().into_iter().filter(|(_, times)| *times > 0);
        verdict.violations.extend(faults.map(|(fault, times)| format!("{}: {fault} {times}", run.name)));
        let missed = thresholds.iter().filter_map(|one| Some((one, one.missed(run)?)));
        verdict.missed.extend(missed.map(|(one, words)| format!("{}: {one}: it {words}", run.name)));
        let bottleneck = run.tester.bottleneck.iter().map(|why| format!("the tester was the bottleneck: {why}"));
        let notes = bottleneck.chain(run.notes.iter().cloned());
        verdict.notes.extend(notes.map(|note| format!("{}: {note}", run.name)));
    }

    verdict.exit_status = match (verdict.violations.is_empty(), verdict.missed.is_empty()) {
        (false, _) => 1,
        (true, false) => 4,
        (true, true) => 0,
    };
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_a_figure_a_sign_and_a_value() {
        let parse = |text: &str| text.parse::<Threshold>();
        let latency = parse("p95( delivery ) > 0.1s").unwrap();
        assert_eq!((latency.bound, latency.greater), (100.0, true));
        assert_eq!(latency.figure, Figure::Latency("p95", "delivery".to_owned()));
        assert_eq!(parse("rate(accepted)<=90").unwrap().figure, Figure::Rate("accepted".to_owned()));
        assert_eq!(parse("lost>0").unwrap().figure, Figure::Count("lost".to_owned()));
        for wrong in ["", "lost", ">1", "p95(delivery)>100", "p95(delivery>1ms", "p42(ok)>1ms", "lost>1ms", "lost>x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
