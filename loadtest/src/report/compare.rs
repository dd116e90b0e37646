//! Compares two reports: ratios, with the noise that is estimated from their seconds.

use super::terminal::{short, table};
use super::{Report, Run};
use std::fmt::Write;

/// A figure of two runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratio {
    /// What is compared.
    pub name: String,
    /// The figure of the first run.
    pub one: f64,
    /// The figure of the second run.
    pub other: f64,
    /// The error of the ratio, as a share of it: two standard errors, from the scatter of the seconds; `None` where the
    /// figure has no series.
    pub noise: Option<f64>,
}

impl Ratio {
    /// The second figure divided by the first.
    pub fn ratio(&self) -> f64 {
        self.other / self.one
    }

    /// True when the difference is greater than the noise.
    pub fn differs(&self) -> bool {
        self.noise.is_some_and(|noise| (self.ratio() - 1.0).abs() > noise)
    }
}

/// Two standard errors of a mean, as a share of it.
fn scatter(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (values.len() > 2 && mean > 0.0).then(|| 2.0 * (variance / count).sqrt() / mean)
}

fn both(one: &[f64], other: &[f64]) -> Option<f64> {
    Some(scatter(one)?.hypot(scatter(other)?))
}

/// Every figure that both runs have and that is not 0 in the first.
pub fn ratios(one: &Run, other: &Run) -> Vec<Ratio> {
    let mut all = Vec::new();
    let rates = [
        ("accepted", &one.series.accepted, &other.series.accepted),
        ("delivered", &one.series.delivered, &other.series.delivered),
        ("answered", &one.series.answered, &other.series.answered),
    ];

    for (name, first, second) in rates {
        if let (Some(a), Some(b)) = (one.per_second.get(name), other.per_second.get(name)) {
            all.push(Ratio { name: format!("{name}/s"), one: *a, other: *b, noise: both(first, second) });
        }
    }

    let classes = [
        ("delivery", &one.series.delivery, &other.series.delivery),
        ("ok", &one.series.ok, &other.series.ok),
        ("query", &one.series.query, &other.series.query),
    ];

    for (class, first, second) in classes {
        let (Some(a), Some(b)) = (one.latency_ms.get(class), other.latency_ms.get(class)) else { continue };
        let figures = [
            ("p50", a.p50, b.p50, &first.p50, &second.p50),
            ("p95", a.p95, b.p95, &first.p95, &second.p95),
            ("p99", a.p99, b.p99, &first.p99, &second.p99),
        ];
        for (figure, a, b, first, second) in figures {
            let there = |values: &[Option<f64>]| values.iter().flatten().copied().collect::<Vec<_>>();
            let noise = both(&there(first), &there(second));
            all.push(Ratio { name: format!("{class} {figure}, ms"), one: a, other: b, noise });
        }
    }

    if let Some((a, b)) = one.relay.zip(other.relay) {
        let (a, b) = (a.cpu_us_per_message, b.cpu_us_per_message);
        all.push(Ratio { name: "relay CPU a message, µs".to_owned(), one: a, other: b, noise: None });
    }
    all.retain(|ratio| ratio.one > 0.0);
    all
}

/// The comparison as a table. Pairs runs by their order; lists the faults of each below.
pub fn compare(one: (&str, &Report), other: (&str, &Report)) -> String {
    let mut text = String::new();
    for (first, second) in one.1.runs.iter().zip(&other.1.runs) {
        let _ = writeln!(text, "\n{}, then {}", first.name, second.name);
        let mut table = table(&["", "one", "other", "other/one", "noise", ""]);
        for ratio in ratios(first, second) {
            let noise = ratio.noise.map(|noise| format!("±{:.1} %", 100.0 * noise)).unwrap_or_default();
            let says = if ratio.differs() { "differs" } else { "" };
            let (a, b) = (short(ratio.one), short(ratio.other));
            table.add_row(vec![ratio.name.clone(), a, b, format!("{:.3}", ratio.ratio()), noise, says.to_owned()]);
        }

        let _ = writeln!(text, "{table}");
        for (name, run) in [(one.0, first), (other.0, second)] {
            let faults = run.ledger.faults().into_iter().filter(|(_, times)| *times > 0);
            faults.for_each(|(fault, times)| text.push_str(&format!("{name}: {fault} {times}\n")));
            if let Some(why) = &run.tester.bottleneck {
                let _ = writeln!(text, "{name}: the tester was the bottleneck: {why}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_within_the_noise_is_none() {
        let noise = both(&[90.0, 100.0, 110.0, 100.0], &[95.0, 105.0, 100.0, 110.0]);
        let near = Ratio { name: String::new(), one: 100.0, other: 102.5, noise };
        assert!(noise.is_some_and(|noise| (0.05..0.15).contains(&noise)), "{noise:?}");
        assert!(!near.differs() && Ratio { other: 150.0, ..near }.differs());
        assert_eq!(both(&[1.0], &[1.0, 2.0, 3.0]), None);
    }
}
