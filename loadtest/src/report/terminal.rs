//! The report as text for a terminal.

use super::{Report, Run};
use crate::stats::Summary;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use std::fmt::Write;

/// Errors shown; the rest are in the report.
const MOST_ERRORS: usize = 8;

/// The whole report in a few tables.
pub fn print(report: &Report) -> String {
    let mut text = String::new();
    for run in &report.runs {
        let _ = write!(text, "{}", one(run));
    }
    let verdict = &report.verdict;
    let lines = [("VIOLATED", &verdict.violations), ("MISSED", &verdict.missed), ("note", &verdict.notes)];
    for (what, lines) in lines {
        for line in lines {
            let _ = writeln!(text, "{what}: {line}");
        }
    }

    let _ = match verdict.exit_status {
        0 => writeln!(text, "clean: every delivery that was due came once and in order"),
        status => writeln!(text, "exit status {status}"),
    };
    text
}

pub(crate) fn table(head: &[&'static str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(head);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn one(run: &Run) -> String {
    let pace = match (run.rate, run.in_flight) {
        (Some(rate), _) => format!("{rate}/s"),
        (_, Some(most)) => format!("{most} in flight"),
        _ => String::new(),
    };

    let mut text = format!(
        "\n{}: {} of {} connections live, {pace}, {:.1} s, {:.1} matches an event\n",
        run.name, run.connections_live, run.connections, run.ran_seconds, run.matches_per_event
    );
    let mut latencies = table(&["ms", "count", "/s", "p50", "p95", "p99", "max"]);
    let rows = [
        ("connect", None),
        ("reconnect", None),
        ("ok", Some("accepted")),
        ("delivery", Some("delivered")),
        ("across", None),
        ("query", Some("answered")),
    ];

    let classes = run.latency_ms.keys().filter(|name| name.starts_with("query/")).map(|name| (name.as_str(), None));
    for (name, rate) in rows.into_iter().chain(classes) {
        let Some(Summary { count, p50, p95, p99, max, .. }) = run.latency_ms.get(name) else { continue };
        let rate = rate.and_then(|rate| run.per_second.get(rate)).map(|rate| grouped(*rate as u64));
        let name = name.replace("query/", "  ");
        let mut row = vec![name, grouped(*count), rate.unwrap_or_default()];
        row.extend([p50, p95, p99, max].map(|millis| short(*millis)));
        latencies.add_row(row);
    }

    let _ = writeln!(text, "{latencies}");
    let _ = writeln!(text, "{}", ledger(run));
    let tester = &run.tester;
    let lag = tester.lag_ms.map(|lag| format!(", p99 lag {} ms", short(lag.p99))).unwrap_or_default();
    let _ = writeln!(
        text,
        "tester: {} µs of CPU a message ({} messages/s would fill a core), busiest thread {:.0} % of a core{lag}, \
         {:.1} KiB a connection",
        short(tester.cpu_us_per_message),
        grouped(tester.messages_per_core_second as u64),
        tester.busiest_thread_percent,
        tester.bytes_per_connection / 1024.0
    );

    if let Some(relay) = &run.relay {
        let _ = writeln!(
            text,
            "relay: {} s of CPU, {} µs a message, {:.0} MiB at most",
            short(relay.cpu_seconds),
            short(relay.cpu_us_per_message),
            relay.memory_bytes as f64 / f64::from(1 << 20)
        );
    }

    let mut errors = run.errors.0.iter().collect::<Vec<_>>();
    errors.sort_by(|one, other| other.1.cmp(one.1));
    for (words, times) in errors.iter().take(MOST_ERRORS) {
        let _ = writeln!(text, "  {times} x {words}");
    }
    text
}

/// The ledger's sums: first what may happen, then the faults.
fn ledger(run: &Run) -> Table {
    let totals = &run.ledger;
    let mut table = table(&["ledger", "", "faults", ""]);
    let sums = [
        ("events sent", totals.sent),
        ("accepted", totals.accepted),
        ("refused", totals.refused),
        ("duplicates", totals.duplicates),
        ("no OK: connection broke", totals.unknown),
        ("deliveries due", totals.due),
        ("delivered", totals.delivered),
        ("  of these caught up", totals.caught_up),
        ("  of these late", totals.late),
        ("not due: subscriber offline", totals.excused_offline),
        ("not due: superseded", totals.excused_superseded),
        ("looked for in the store", totals.looked_for),
    ];

    let mut faults = totals.faults().into_iter();
    for (name, sum) in sums {
        let (fault, times) =
            faults.next().map_or((String::new(), None), |(fault, times)| (fault.replace('_', " "), Some(times)));
        // A fault that did not happen is shown as a dash, so that the others stand out.
        let times = times.map(|times| if times == 0 { "-".to_owned() } else { grouped(times) });
        let right = |number: String| Cell::new(number).set_alignment(CellAlignment::Right);
        table.add_row(vec![
            Cell::new(name),
            right(grouped(sum)),
            Cell::new(fault).set_alignment(CellAlignment::Left),
            right(times.unwrap_or_default()),
        ]);
    }
    table
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        below if below < 10.0 => format!("{value:.2}"),
        below if below < 100.0 => format!("{value:.1}"),
        _ => grouped(value.round() as u64),
    }
}
