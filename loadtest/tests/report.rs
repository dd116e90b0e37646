//! Checks a run's report: its files are written, read back, drawn, and opened in a browser where there is one.

#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::{Lie, lying};
use std::path::Path;
use std::process::{Command, Output};

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

/// Runs the program against a relay that the test starts.
async fn report(lie: Lie, directory: &Path, more: &[&str]) -> Output {
    let (url, _) = lying("", lie).await;
    let directory = directory.to_str().unwrap();
    let few = ["--url", &url, "--duration", "3s", "--rate", "30", "--authors", "30", "--patience", "3s"];
    let arguments = [&few[..], &["--report", directory], more].concat().into_iter().map(str::to_owned);
    let arguments = arguments.collect::<Vec<_>>();
    let run = move || loadtest(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The page's elements after its script has run; `None` without a browser.
fn opened(page: &Path) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    let output = command.arg(format!("file://{}", page.display())).output().ok()?;
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_make_a_page_pictures_and_a_comparison() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let output = report(Lie::None, path, &["--steps", "10,20"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("clean: every delivery"), "{}", text(&output));
    for picture in ["latency.png", "throughput.png", "connections.png", "scalability.png"] {
        let bytes = std::fs::read(path.join(picture)).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "{picture}: {} bytes", bytes.len());
    }

    assert!(std::fs::read_to_string(path.join("loadtest.log")).unwrap().contains("running"));
    let page = std::fs::read_to_string(path.join("report.html")).unwrap();
    assert!(!page.contains("src=") && !page.contains("href="), "the page asks somebody for something");
    if let Some(dom) = opened(&path.join("report.html")) {
        assert!(dom.contains("data-drawn=\"yes\""), "its script failed: {dom}");
        assert!(dom.matches("<svg").count() >= 2 * 5 + 2 && dom.matches("<path").count() >= 20);
        assert!(dom.contains("class=\"verdict good\"") && !dom.contains("NaN"));
    }

    let (json, out) = (path.join("report.json"), path.join("both.png"));
    let (json, out) = (json.to_str().unwrap(), out.to_str().unwrap());
    let compared = loadtest(&["compare", json, json, "--out", out]);
    assert!(compared.status.success() && text(&compared).contains("1.000"), "{}", text(&compared));
    assert!(std::fs::read(out).unwrap().starts_with(b"\x89PNG"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_status_tells_and_a_relay_s_words_stay_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let few = ["--workload", "fanout", "--connections", "10"];
    let output = report(Lie::Drop, path, &few).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("VIOLATED: fanout: lost"), "{}", text(&output));
    if let Some(dom) = opened(&path.join("report.html")) {
        assert!(dom.contains("class=\"verdict bad\"") && dom.contains("Correctness violated"));
    }
    let missed = report(Lie::None, path, &[&few[..], &["--fail-if", "p50(delivery)>0.001ms"]].concat()).await;
    assert_eq!(missed.status.code(), Some(4), "{}", text(&missed));
    let nobody = loadtest(&["--url", "ws://127.0.0.1:1", "--connections", "1", "--duration", "1s"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", text(&nobody));
    assert_eq!(loadtest(&["--rate", "1"]).status.code(), Some(2));
}
