//! Records what Prometheus would have scraped during a test's fault, and checks that the alert would have fired.
//!
//! A test's fault is over long before the minute that most alerts wait for, so the recording is replayed more slowly:
//! the half second between two scrapes becomes half a minute. The values and their order stay.

use crate::{Error, STEP_TIMEOUT, http};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The rules of production.
pub(crate) const RULES: &str = include_str!("../observe/rules.yaml");
/// The time between two scrapes.
const SCRAPE: Duration = Duration::from_millis(500);
/// Seconds between two scrapes when they are replayed.
const STEP: usize = 30;
/// A target that takes longer to answer counts as down.
const ANSWER: Duration = Duration::from_secs(2);
/// How many scrapes before a fault are replayed with it: the longest range of a rule.
const BEFORE: usize = 20;

/// A target of scrapes.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its `job`, as in `prometheus.yaml`.
    pub job: &'static str,
    /// Its `instance`.
    pub instance: String,
    /// The port of its `/metrics`, on 127.0.0.1.
    pub port: u16,
}

/// One scrape of all targets: series and values of the metrics in the rules.
type Scrape = BTreeMap<String, f64>;

/// Scrapes its targets until it is dropped.
#[derive(Debug)]
pub struct Recording {
    scrapes: watch::Receiver<Vec<Scrape>>,
    task: JoinHandle<()>,
}

impl Recording {
    /// Begins to scrape the targets periodically.
    pub fn start(targets: Vec<Target>) -> Self {
        let (sender, scrapes) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let mut ticks = interval(SCRAPE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let scrape = scrape(&targets).await;
                sender.send_modify(|scrapes| scrapes.push(scrape));
            }
        });
        Self { scrapes, task }
    }

    /// Begins a fault. Returns right after a scrape, so that the next scrape is the first with the fault.
    pub async fn fault(&self) -> Fault {
        let mut scrapes = self.scrapes.clone();
        scrapes.mark_unchanged();
        // An error means that the task has panicked. Then no alert fires, and `raises` fails.
        let _ = scrapes.changed().await;
        let begin = scrapes.borrow().len();
        Fault { scrapes, begin, quiet: None }
    }

    /// A fault that has been on from the first scrape. `quiet` is the value without the fault of the metric that shows
    /// it.
    pub fn fault_from_the_start(&self, quiet: f64) -> Fault {
        Fault { scrapes: self.scrapes.clone(), begin: 0, quiet: Some(quiet) }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A fault that is on, and its recording.
#[derive(Debug)]
pub struct Fault {
    scrapes: watch::Receiver<Vec<Scrape>>,
    /// The first scrape that may show it.
    begin: usize,
    /// The value without the fault of the metric that shows it, for a fault that has no scrape before it.
    quiet: Option<f64>,
}

impl Fault {
    /// Waits until the recording fires `alert`, by `promtool test rules`: so it must be called while the fault is on.
    /// The alert must not fire before the fault. As the control, it must not fire at all in the same recording where
    /// the series of `metric` keep their values from before the fault.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the recording and promtool's output where it does not fire; [`Error::Failed`] where it
    /// fires before the fault or in the control; [`Error::Missing`] without promtool.
    pub async fn raises(&self, alert: &str, metric: &str) -> Result<(), Error> {
        let what = format!("{alert} to be raised");
        let mut scrapes = self.scrapes.clone();
        let mut last = String::new();
        let raised = async {
            loop {
                let test = self.replay(&scrapes.borrow_and_update(), alert, None)?;
                match judge(&test).await? {
                    Ok(()) => return Ok(()),
                    Err(output) => last = format!("{output}\n{test}"),
                }
                if scrapes.changed().await.is_err() {
                    return Err(Error::State("the recording has ended".to_owned()));
                }
            }
        };

        match timeout(STEP_TIMEOUT, raised).await {
            Ok(result) => result?,
            Err(_) => return Err(Error::Timeout { what, waited: STEP_TIMEOUT, last }),
        }
        let control = self.replay(&self.scrapes.borrow(), alert, Some(metric))?;
        let failed = |output: String| Error::Failed {
            what: format!("the control of {alert}, which shows by {metric}"),
            status: "raised without the fault".to_owned(),
            output: format!("{output}\n{control}"),
        };
        judge(&control).await?.map_err(failed)
    }

    /// A test for promtool: `alert` fires while the fault is on. Or, with `held`, a metric that keeps its value from
    /// before the fault: `alert` fires neither during the fault nor before it.
    fn replay(&self, scrapes: &[Scrape], alert: &str, held: Option<&str>) -> Result<String, Error> {
        let rule = rule(alert).ok_or_else(|| Error::State(format!("there is no alert {alert}")))?;
        let metrics = metrics(rule);
        if let Some(held) = held.filter(|held| !metrics.contains(held)) {
            return Err(Error::State(format!("{alert} does not ask for {held}")));
        }
        let first = self.begin.saturating_sub(BEFORE);
        let begin = self.begin - first;
        let scrapes = scrapes.get(first..).unwrap_or_default();
        let recorded = scrapes.iter().flat_map(BTreeMap::keys).filter(|series| metrics.contains(name(series)));
        let series: BTreeSet<_> = recorded.collect();
        let mut inputs = String::new();
        for series in &series {
            let quiet = || {
                let before = scrapes.iter().take(begin).rev().find_map(|scrape| scrape.get(*series)).copied();
                before.or(self.quiet).map_or("stale".to_owned(), |value| value.to_string())
            };
            let sample = |scrape: &Scrape| scrape.get(*series).map_or("stale".to_owned(), f64::to_string);
            let values: Vec<_> = match held {
                Some(held) if name(series) == held => vec![quiet(); scrapes.len()],
                _ => scrapes.iter().map(sample).collect(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(inputs, "      - {{series: '{series}', values: '{}'}}", values.join(" "));
        }

        let firing = format!(r#"ALERTS{{alertname="{alert}",alertstate="firing"}}"#);
        let end = scrapes.len().saturating_sub(1);
        // Half a step more, so that the range includes the scrape at which it begins but not the one before.
        let (during, now) = (end.saturating_sub(begin) * STEP + STEP / 2, end * STEP);
        let samples = if held.is_none() { "{labels: '{}', value: 1}" } else { "" };
        let ever = format!("count(count_over_time({firing}[{during}s])) > bool 0");
        let mut expressions = format!("      - {{expr: '{ever}', eval_time: {now}s, exp_samples: [{samples}]}}\n");
        if held.is_some() && begin > 0 {
            let before = (begin - 1) * STEP;
            let _ = writeln!(expressions, "      - {{expr: '{firing}', eval_time: {before}s, exp_samples: []}}");
        }

        Ok(format!(
            "rule_files: [rules.yaml]\nevaluation_interval: {STEP}s\ntests:\n  - interval: {STEP}s\n    \
             input_series:\n{inputs}    promql_expr_test:\n{expressions}"
        ))
    }
}

/// The verdict of `promtool test rules` on a test.
async fn judge(test: &str) -> Result<Result<(), String>, Error> {
    let failed = |what: &str| Error::io(format!("{what} a test for promtool"));
    let folder = tempfile::tempdir().map_err(failed("writing"))?;
    for (name, text) in [("rules.yaml", RULES), ("test.yaml", test)] {
        std::fs::write(folder.path().join(name), text).map_err(failed("writing"))?;
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["test", "rules", "test.yaml"]).current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = promtool.output().await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { program: "promtool".to_owned(), package: "prometheus" },
        _ => failed("running")(error),
    })?;
    let text = [output.stdout, output.stderr].concat();
    Ok(if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&text).into_owned()) })
}

/// The text of an alert's rule.
fn rule(alert: &str) -> Option<&'static str> {
    RULES.split("- alert: ").skip(1).find(|rule| rule.lines().next() == Some(alert))
}

/// The metrics that a part of the rules names.
fn metrics(rules: &str) -> BTreeSet<&str> {
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| *word == "up" || word.starts_with("nostr_") || word.starts_with("haproxy_")).collect()
}

/// The metric of a series.
fn name(series: &str) -> &str {
    series.split(['{', ' ']).next().unwrap_or_default()
}

/// Scrapes all targets at the same time.
async fn scrape(targets: &[Target]) -> Scrape {
    let mut requests = JoinSet::new();
    for target in targets.iter().cloned() {
        requests.spawn(async move {
            let answer = timeout(ANSWER, http::get(&target.instance, target.port, "/metrics")).await;
            let text = answer.ok().and_then(Result::ok).filter(|(status, _)| *status == 200).map(|(_, text)| text);
            (target, text)
        });
    }

    let mut all = Scrape::new();
    let wanted = metrics(RULES);
    while let Some(request) = requests.join_next().await {
        let Ok((target, text)) = request else { continue };
        let of_target = format!(r#"instance="{}",job="{}""#, target.instance, target.job);
        all.insert(format!("up{{{of_target}}}"), if text.is_some() { 1.0 } else { 0.0 });
        let lines = text.iter().flat_map(|text| text.lines());
        for line in lines.filter(|line| wanted.contains(name(line))) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}');
            let comma = if labels.is_empty() { "" } else { "," };
            all.insert(format!("{name}{{{labels}{comma}{of_target}}}"), value);
        }
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A recording of two instances; `bus` has `nostr_bus_up` of the first, scrape by scrape.
    fn fault(bus: &[u8], begin: usize) -> Fault {
        let scrape = |bus: &u8| {
            let series = |name: &str, instance: &str| format!(r#"{name}{{instance="{instance}",job="skein"}}"#);
            Scrape::from([
                (series("up", "a"), 1.0),
                (series("up", "b"), 1.0),
                (series("nostr_bus_up", "a"), f64::from(*bus)),
                (series("nostr_bus_up", "b"), 1.0),
            ])
        };
        let (_, scrapes) = watch::channel(bus.iter().map(scrape).collect());
        Fault { scrapes, begin, quiet: None }
    }

    async fn raised(bus: &[u8], begin: usize, metric: &str) -> Result<(), Error> {
        fault(bus, begin).raises("SkeinRedisDown", metric).await
    }

    #[tokio::test]
    async fn a_recording_raises_the_alert_and_only_with_the_fault() {
        raised(&[1, 1, 0, 0, 0], 2, "nostr_bus_up").await.unwrap();
        let short = raised(&[1, 1, 1, 0, 0], 2, "nostr_bus_up").await;
        assert!(matches!(short, Err(Error::State(_))), "a minute has not passed, and no scrape comes: {short:?}");
        let other = raised(&[1, 1, 0, 0, 0], 2, "up").await;
        assert!(matches!(other, Err(Error::Failed { .. })), "control: it is not `up` that shows it: {other:?}");
        let before = raised(&[0, 0, 0, 0, 0, 0], 4, "nostr_bus_up").await;
        assert!(matches!(before, Err(Error::Failed { .. })), "it was raised before the fault: {before:?}");
        let mut from_the_start = fault(&[0, 0, 0], 0);
        from_the_start.quiet = Some(1.0);
        from_the_start.raises("SkeinRedisDown", "nostr_bus_up").await.unwrap();
    }

    #[test]
    fn a_rule_names_its_metrics() {
        assert_eq!(metrics(rule("SkeinRedisDown").unwrap()), BTreeSet::from(["nostr_bus_up", "up"]));
        assert_eq!(metrics(rule("SkeinServerDown").unwrap()), BTreeSet::from(["nostr_database_servers"]));
        assert!(rule("SkeinNothing").is_none());
    }
}
