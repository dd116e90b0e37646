//! Writes a report's files.

use super::Report;
use super::chart::{Chart, of_both, of_run, of_steps};
use super::picture::draw;
use serde::Serialize;
use std::io;
use std::path::Path;

/// The data of the page.
#[derive(Serialize)]
struct Page<'a> {
    report: &'a Report,
    charts: Vec<Vec<(&'static str, Chart)>>,
    steps: Vec<(&'static str, Chart)>,
}

/// Writes report.json, report.html and the pictures into `directory`: of the last run latency.png, throughput.png,
/// connections.png and the like, of several steps scalability.png, of cold and warm caches cache_comparison.png.
///
/// # Errors
/// The files'.
pub fn write_all(report: &Report, directory: &Path) -> io::Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(directory.join("report.json"), json + "\n")?;
    std::fs::write(directory.join("report.html"), page(report)?)?;
    if let Some(run) = report.runs.last() {
        let charts = of_run(run);
        let latencies = charts.iter().filter(|(name, _)| name.starts_with("latency"));
        let latencies = latencies.map(|(_, chart)| chart.clone()).collect::<Vec<_>>();
        if !latencies.is_empty() {
            draw(&latencies, &directory.join("latency.png"))?;
        }
        for (name, chart) in charts.into_iter().filter(|(name, _)| !name.starts_with("latency")) {
            draw(&[chart], &directory.join(format!("{name}.png")))?;
        }
    }

    let steps = of_steps(report).into_iter().map(|(_, chart)| chart).collect::<Vec<_>>();
    if !steps.is_empty() {
        draw(&steps, &directory.join("scalability.png"))?;
    }
    if let [cold, warm] = &report.runs[..]
        && cold.cache.is_some()
        && cold.name != warm.name
    {
        let charts = of_both((&cold.name, cold), (&warm.name, warm));
        let charts = charts.into_iter().filter(|(name, _)| *name == "latency_query" || *name == "throughput");
        draw(&charts.map(|(_, chart)| chart).collect::<Vec<_>>(), &directory.join("cache_comparison.png"))?;
    }
    Ok(())
}

/// The page, with its data in it.
fn page(report: &Report) -> io::Result<String> {
    let page = Page { report, charts: report.runs.iter().map(of_run).collect(), steps: of_steps(report) };
    // A relay's words may contain `</script>`, which would end the script element.
    let data = serde_json::to_string(&page)?.replace('<', "\\u003c");
    Ok(include_str!("page.html").replace("@DATA@", &data))
}

/// Draws the charts that two reports have in common into a PNG file.
///
/// # Errors
/// The file's; a report without a run.
pub fn draw_both(one: (&str, &Report), other: (&str, &Report), path: &Path) -> io::Result<()> {
    let last =
        |report: &'_ Report| report.runs.last().cloned().ok_or_else(|| io::Error::other("a report without a run"));
    let charts = of_both((one.0, &last(one.1)?), (other.0, &last(other.1)?));
    let wanted = |name: &str| name.starts_with("latency") || name == "throughput";
    let charts = charts.into_iter().filter(|(name, _)| wanted(name)).map(|(_, chart)| chart);
    draw(&charts.collect::<Vec<_>>(), path)
}
