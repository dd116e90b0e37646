//! The command line: exit codes, output, and secrets that are never printed.

#![allow(missing_docs, clippy::unwrap_used)]

use relay::types::{Event, Kind, PublicKey};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const RELAY: &str = env!("CARGO_BIN_EXE_relay");

fn relay(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    relay_in(directory.path(), &[&[RELAY], arguments].concat(), environment)
}

/// Runs `words` in a folder that may have a database.
fn relay_in(folder: &Path, words: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RELAY_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn check_config_prints_what_is_in_force_and_where_it_came_from() {
    let output = relay(&["check-config", "--limits-max-filters", "4"], &[("RELAY_INFO_NAME", "ours")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for line in [
        "listen = \"127.0.0.1:7777\"",
        "limits.max_filters = 4  # from --limits-max-filters",
        "info.name = \"ours\"  # from RELAY_INFO_NAME",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
    }
    text.parse::<toml::Table>().expect("it can be used as a configuration file");
}

#[test]
fn wrong_settings_exit_with_2_and_name_every_fault() {
    let environment = [("RELAY_LIMITS_MAX_FILTER", "1"), ("RELAY_DATABASE_URLS", "mysql://me:hunter2@db/relay")];
    for command in ["check-config", "serve"] {
        let output = relay(&[command, "--limits-max-limit", "many"], &environment);
        assert_eq!(output.status.code(), Some(2));
        let text = stderr(&output);
        assert!(text.contains("did you mean RELAY_LIMITS_MAX_FILTERS?"), "{text}");
        assert!(text.contains("limits.max_limit (from --limits-max-limit): expected a whole number"), "{text}");
        assert!(stdout(&output).is_empty());
    }

    let output = relay(&["check-config"], &environment[1..]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("database.urls (from RELAY_DATABASE_URLS): must be a sqlite: URL"),
        "{}",
        stderr(&output)
    );

    assert!(!stderr(&output).contains("hunter2"));
    // The systemd unit relies on this: without its secrets the relay must not open a SQLite file instead of the
    // servers.
    let output = relay(&["check-config"], &[("RELAY_DATABASE_URLS", "")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("database.urls (from RELAY_DATABASE_URLS): must name a database"));
}

#[test]
fn the_version_is_told() {
    let output = relay(&["--version"], &[]);
    assert_eq!(stdout(&output), concat!("relay ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// Starts the program, finds its admin listener in its log, asks whether it is ready, and stops it.
#[test]
fn serve_is_ready_and_stops_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"])
        .current_dir(directory.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());

    let address = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended early");
        let line: serde_json::Value = serde_json::from_str(&line).expect("every line is one JSON object");
        let message = line["message"].as_str().unwrap();
        if let Some((address, _)) = message.strip_prefix("operators: http://").and_then(|rest| rest.split_once('/')) {
            break address.to_owned();
        }
    };

    let live = {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };

    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with("relay.db")).collect();
    names.sort();
    names
}

#[test]
fn rejected_lines_overwrite_nothing_and_none_goes_by_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let source = b"nonsense\n\xff\xfe\nmore nonsense\n";
    std::fs::write(folder.path().join("in.jsonl"), source).unwrap();
    let import = |rejects: &str, urls: &str| {
        let words = [RELAY, "import", "in.jsonl", "--rejects", rejects];
        relay_in(folder.path(), &words, &[("RELAY_DATABASE_URLS", urls)])
    };
    let output = import("in.jsonl", "sqlite:relay.db");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(std::fs::read(folder.path().join("in.jsonl")).unwrap(), source);

    let output = import("out.jsonl", "sqlite:nowhere/relay.db");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(names(folder.path()), ["in.jsonl"], "an import that did not begin leaves nothing");

    let output = import("out.jsonl", "sqlite:relay.db");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(folder.path().join("out.jsonl")).unwrap(), "nonsense\nmore nonsense\n");
    assert!(stderr(&output).contains("line 2: not UTF-8"), "{}", stderr(&output));
    assert!(stderr(&output).contains("3 rejected"), "{}", stderr(&output));
}

/// A write that failed on a full disk must not keep the disk full.
#[test]
fn a_backup_or_an_export_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let event = |n: i64| Event::build(PublicKey::from_bytes([9; 32]), n, Kind(1), &[], &"x".repeat(1_000), |_| [7; 64]);
    let lines: String = (0..2_000).map(|n| format!("{}\n", event(n).text())).collect();
    std::fs::write(folder.path().join("in.jsonl"), lines).unwrap();
    let output = relay_in(folder.path(), &[RELAY, "import", "--no-verify", "in.jsonl"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    // Without the trap, a write beyond the limit would kill it.
    let limited = "trap '' XFSZ; exec prlimit --fsize=1000000 \"$@\"";
    for command in ["export", "backup"] {
        std::fs::write(folder.path().join("out.partial"), "of one that was killed").unwrap();
        let output = relay_in(folder.path(), &["sh", "-c", limited, "sh", RELAY, command, "out"], &[]);
        assert_eq!(output.status.code(), Some(1), "{command}: {}", stderr(&output));
        assert_eq!(names(folder.path()), ["in.jsonl"], "{command}: {}", stderr(&output));

        let output = relay_in(folder.path(), &[RELAY, command, "out"], &[]);
        assert_eq!(output.status.code(), Some(0), "{command}: {}", stderr(&output));
        assert_eq!(names(folder.path()), ["in.jsonl", "out"]);
        let output = relay_in(folder.path(), &[RELAY, command, "out"], &[]);
        assert_eq!(output.status.code(), Some(1), "{command}: {}", stderr(&output));
        assert!(std::fs::metadata(folder.path().join("out")).unwrap().len() > 2_000_000, "nothing is overwritten");
        std::fs::remove_file(folder.path().join("out")).unwrap();
    }
}
