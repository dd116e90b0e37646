//! Makes the report's figures from those of the threads.

use super::recorder::{Counts, Latencies, Recorder, Tick};
use super::thread::{Findings, merge_classes};
use super::watch::Watch;
use super::worker::LoadShared;
use super::{Pace, Surroundings, Totals, timeline};
use crate::report::{Run, Series, Tester, Used};
use crate::stats::Latency;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many seconds may lack a thread's figures before the oldest is reported without them.
const PENDING: usize = 3;
/// A thread that used this share of a core over [`BUSY_SECONDS`] is the bottleneck.
const BUSY_PERCENT: f64 = 90.0;
const BUSY_SECONDS: usize = 10;
/// A greater p99 of the lag says that the tester did not keep its schedule.
const LAG_MILLIS: f64 = 20.0;
/// A machine busier than this has no CPU left for either side.
const FULL_PERCENT: f64 = 97.0;

/// The seconds of a run as they come in from the threads.
pub(super) struct Rows {
    threads: usize,
    watch: Watch,
    ticks: mpsc::Receiver<Tick>,
    pending: BTreeMap<usize, Vec<Tick>>,
    series: Series,
    /// The counts during the schedule.
    scheduled: Counts,
    counts: Counts,
    latencies: Latencies,
    cpu: Duration,
    words: String,
}

impl Rows {
    pub(super) fn new(threads: usize, watch: Watch, ticks: mpsc::Receiver<Tick>) -> Self {
        Self {
            threads,
            watch,
            ticks,
            pending: BTreeMap::new(),
            series: Series::default(),
            scheduled: Counts::default(),
            counts: Counts::default(),
            latencies: Latencies::default(),
            cpu: Duration::ZERO,
            words: String::new(),
        }
    }

    /// Takes the ticks that have come, and reports the seconds below `end` that are complete.
    pub(super) fn take(&mut self, end: f64) {
        while let Ok(tick) = self.ticks.try_recv() {
            self.counts.merge(&tick.counts);
            self.latencies.merge(&tick.latencies);
            self.cpu += tick.cpu;
            if (tick.second as f64) < end {
                self.pending.entry(tick.second).or_default().push(tick);
            }
        }
        while self.pending.len() > PENDING
            || self.pending.first_key_value().is_some_and(|(_, ticks)| ticks.len() >= self.threads)
        {
            self.close_second();
        }
    }

    /// Takes all ticks and reports all seconds. For after the schedule, when no thread adds to a second any more.
    pub(super) fn drain(&mut self) {
        self.take(f64::MAX.min(usize::MAX as f64 / 2.0));
        while !self.pending.is_empty() {
            self.close_second();
        }
    }

    fn close_second(&mut self) {
        let Some((second, ticks)) = self.pending.pop_first() else { return };
        let (mut counts, mut latencies) = (Counts::default(), Latencies::default());
        for tick in &ticks {
            counts.merge(&tick.counts);
            latencies.merge(&tick.latencies);
        }
        let live = ticks.iter().map(|tick| tick.live).sum::<usize>();
        let busiest = ticks.iter().map(|tick| tick.cpu.as_secs_f64()).fold(0.0, f64::max);
        let (relay, machine) = self.watch.look();
        self.scheduled.merge(&counts);
        let series = &mut self.series;
        series.second.push(second as f64 + 1.0);
        series.live.push(live as f64);
        series.sent.push(counts.sent as f64);
        series.accepted.push(counts.accepted as f64);
        series.delivered.push(counts.delivered as f64);
        series.answered.push(counts.answered as f64);
        series.errors.push(counts.errors as f64);
        series.delivery.push(latencies.delivery.summary());
        series.ok.push(latencies.ok.summary());
        series.query.push(latencies.query.summary());
        series.tester_cpu.push(100.0 * busiest);
        series.relay_cpu.push(relay);
        series.machine_cpu.push(machine);
        let Counts { accepted, delivered, answered, errors, .. } = counts;
        let p95 = latencies.delivery.summary().map(|delivery| format!(" (p95 {:.1} ms)", delivery.p95));
        self.words = format!(
            "{live} live, {accepted} OK/s, {delivered} delivered/s{}, {answered} answers/s, {errors} errors/s",
            p95.unwrap_or_default()
        );
    }

    /// The last second as a line of text.
    pub(super) fn words(&self) -> String {
        self.words.clone()
    }

    /// The CPU time and memory that the relay's processes have used so far.
    pub(super) fn used(&self) -> Option<Used> {
        self.watch.used(self.messages())
    }

    fn messages(&self) -> u64 {
        self.counts.received + self.counts.sent + self.counts.asked
    }
}

/// The report of one run.
pub(super) fn summarise(
    shared: &LoadShared,
    around: &Surroundings,
    rows: Rows,
    findings: Vec<Findings>,
    ran: Duration,
    relay: Option<Used>,
) -> Run {
    let options = &shared.options;
    let mut totals = Totals::default();
    let mut all = Recorder::new(shared.classes.len());
    let mut notes = Vec::new();
    for Findings { totals: found, recorder, check_failed } in findings {
        totals.merge(&found);
        all.across.merge(&recorder.across);
        all.connect.merge(&recorder.connect);
        all.reconnect.merge(&recorder.reconnect);
        all.lag.merge(&recorder.lag);
        all.blocked += recorder.blocked;
        merge_classes(&mut all.classes, &recorder.classes);
        all.errors.merge(&recorder.errors);
        notes.extend(check_failed.map(|error| format!("what is stored could not be looked at: {error}")));
    }

    let seconds = ran.as_secs_f64().max(1e-9);
    let Counts { sent, accepted, delivered, asked, answered, received, .. } = rows.scheduled;
    let each = [
        ("sent", sent),
        ("accepted", accepted),
        ("delivered", delivered),
        ("asked", asked),
        ("answered", answered),
        ("received", received),
        ("errors", rows.scheduled.errors),
    ];

    let mut latency_ms = BTreeMap::new();
    let Latencies { delivery, ok, query } = &rows.latencies;
    let named = [
        ("delivery", delivery),
        ("ok", ok),
        ("query", query),
        ("across", &all.across),
        ("connect", &all.connect),
        ("reconnect", &all.reconnect),
    ];

    let classes = shared.classes.iter().zip(&all.classes).map(|(name, class)| (format!("query/{name}"), class));
    for (name, latency) in named.map(|(name, latency)| (name.to_owned(), latency)).into_iter().chain(classes) {
        if let Some(summary) = latency.summary() {
            latency_ms.insert(name, summary);
        }
    }

    let matched = totals.due + totals.excused_offline + totals.excused_superseded;
    let tester = tester(&rows, &all.lag, all.blocked);
    let full = rows.series.machine_cpu.iter().filter(|percent| **percent > FULL_PERCENT).count();
    if full * 2 > rows.series.machine_cpu.len() && full > 0 {
        notes.push(format!(
            "the machine of the tester had no CPU left in {full} of {} seconds: a relay on it had less than all of it",
            rows.series.machine_cpu.len()
        ));
    }

    if matches!(options.pace, Pace::Rate(_)) && shared.timeline.made() > timeline::AHEAD {
        notes.push("events were signed during the run: it was too long to sign them all before".to_owned());
    }
    let (rate, in_flight) = match options.pace {
        Pace::Rate(rate) => (Some(rate), None),
        Pace::InFlight(most) => (None, Some(most)),
    };

    Run {
        name: around.name.clone(),
        workload: options.workload,
        urls: options.urls.clone(),
        connections: options.connections,
        connections_live: rows.series.live.iter().fold(0.0, |most: f64, live| most.max(*live)) as usize,
        threads: options.threads,
        rate,
        in_flight,
        cache: around.cache,
        seed: options.seed,
        duration_seconds: options.duration.as_secs_f64(),
        ran_seconds: seconds,
        matches_per_event: if totals.accepted > 0 { matched as f64 / totals.accepted as f64 } else { 0.0 },
        ledger: totals,
        counts: rows.counts,
        per_second: each.iter().map(|(name, count)| ((*name).to_owned(), *count as f64 / seconds)).collect(),
        latency_ms,
        tester,
        relay,
        metrics: Vec::new(),
        errors: all.errors,
        notes,
        series: rows.series,
    }
}

fn tester(rows: &Rows, lag: &Latency, blocked: u64) -> Tester {
    let cpu = &rows.series.tester_cpu;
    let window = BUSY_SECONDS.min(cpu.len()).max(1);
    let mean = |seconds: &[f64]| seconds.iter().sum::<f64>() / seconds.len() as f64;
    let busiest = cpu.windows(window).map(mean).fold(0.0, f64::max);
    let lag_ms = lag.summary();
    let late = lag_ms.filter(|lag| lag.p99 > LAG_MILLIS && blocked == 0);
    let bottleneck = if busiest > BUSY_PERCENT {
        Some(format!(
            "a thread of the tester used {busiest:.0} % of a core for {window} s: take more --threads or machines"
        ))
    } else {
        late.map(|lag| format!("the tester sent 1 of 100 messages {:.0} ms or more after they were due", lag.p99))
    };

    let messages = rows.messages().max(1) as f64;
    let each = rows.cpu.as_secs_f64() / messages;
    Tester {
        cpu_seconds: rows.cpu.as_secs_f64(),
        cpu_us_per_message: each * 1e6,
        messages_per_core_second: if each > 0.0 { 1.0 / each } else { 0.0 },
        busiest_thread_percent: busiest,
        lag_ms,
        blocked,
        bytes_per_connection: 0.0,
        bottleneck,
    }
}
