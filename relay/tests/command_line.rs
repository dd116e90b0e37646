//! The program as an operator meets it: exit codes, what it prints, what it never prints.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

fn relay(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args(arguments).current_dir(directory.path()).stdin(Stdio::null());
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
