//! Checks the `deploy` command: each call finds the processes that an earlier one has started.

#![allow(missing_docs, clippy::unwrap_used)]

use deploy::process::Identity;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A cluster's directory. Dropping it ends all processes of the cluster, also after a failed test.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        let mut deploy = Command::new(env!("CARGO_BIN_EXE_deploy"));
        // With this variable `deploy` would build the relay.
        deploy.env_remove("CARGO");
        deploy.arg(command).arg("--dir").arg(self.path()).args(rest).output().unwrap()
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "deploy {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn bad(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "deploy {arguments:?} went well");
        String::from_utf8(output.stderr).unwrap()
    }

    fn status(&self) -> Vec<Value> {
        serde_json::from_str(&self.good(&["status", "--json"])).unwrap()
    }

    fn row(&self, name: &str) -> Value {
        self.status().into_iter().find(|row| row["name"] == name).unwrap()
    }

    fn state(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path().join("cluster.json")).unwrap()).unwrap()
    }

    fn change_state(&self, key: &str, value: Value) {
        let mut state = self.state();
        state[key] = value;
        std::fs::write(self.path().join("cluster.json"), state.to_string()).unwrap();
    }

    fn identities(&self) -> Vec<Identity> {
        let files = std::fs::read_dir(self.path().join("run")).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let output = self.run(&["down"]);
        if std::thread::panicking() {
            let logs = std::fs::read_dir(self.path().join("logs")).into_iter().flatten().flatten();
            for log in logs {
                let text = std::fs::read_to_string(log.path()).unwrap_or_default();
                let lines: Vec<_> = text.lines().rev().take(20).collect();
                eprintln!("--- {}", log.path().display());
                lines.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        } else {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

fn pids(rows: &[Value]) -> Vec<i64> {
    rows.iter().filter_map(|row| row["pid"].as_i64()).collect()
}

#[test]
fn servers_come_up_are_found_again_fail_over_and_go_down() {
    let directory = Directory::new();
    assert_eq!(directory.status(), Vec::<Value>::new());
    directory.good(&["up", "--relays", "0", "--replicas", "2"]);
    let before = directory.status();
    let names: Vec<_> =
        before.iter().map(|row| (row["name"].as_str().unwrap(), row["role"].as_str().unwrap())).collect();
    let expected = [("redis", "redis"), ("primary", "primary"), ("replica-1", "replica"), ("replica-2", "replica")];
    assert_eq!(names, expected);
    assert_eq!(pids(&before).len(), 4);
    assert!(before[1]["url"].as_str().unwrap().starts_with("postgres://postgres@127.0.0.1:"));

    // A second call starts only the processes that do not run.
    directory.good(&["up"]);
    assert_eq!(directory.status(), before);
    directory.good(&["kill", "replica-2"]);
    assert_eq!(directory.row("replica-2")["pid"], Value::Null);
    assert!(directory.bad(&["kill", "replica-2"]).contains("does not run"));
    assert!(directory.bad(&["kill", "replica-7"]).contains("primary"), "the names that there are");
    directory.good(&["up"]);
    assert_eq!(pids(&directory.status()).len(), 4);
    assert_eq!(directory.row("primary"), before[1]);
    assert!(directory.bad(&["up", "--replicas", "1"]).contains("fewer"));

    // STOP makes it hang, CONT ends that.
    directory.good(&["kill", "redis", "--signal", "stop"]);
    directory.good(&["kill", "redis", "--signal", "CONT"]);

    directory.good(&["kill", "primary"]);
    directory.good(&["failover"]);
    assert_eq!(directory.row("replica-1")["role"], "primary");
    assert_eq!(
        (&directory.row("primary")["role"], &directory.row("primary")["pid"]),
        (&"replica".into(), &Value::Null)
    );
    // An interrupted failover is completed, while the first primary stays stopped.
    directory.change_state("failing_over", true.into());
    assert!(directory.bad(&["up"]).contains("failover"));
    directory.good(&["failover"]);
    assert_eq!(directory.row("replica-2")["role"], "primary");
    assert_eq!(directory.row("primary")["pid"], Value::Null);
    directory.good(&["up"]);
    assert_eq!(directory.row("primary")["role"], "replica");
    assert_eq!(pids(&directory.status()).len(), 4);

    let identities = directory.identities();
    assert_eq!(identities.iter().filter(|identity| identity.is_alive()).count(), 4);
    directory.good(&["down"]);
    assert_eq!(identities.iter().filter(|identity| identity.is_alive()).count(), 0);
    assert!(pids(&directory.status()).is_empty());
    directory.good(&["down", "--delete"]);
    assert!(!directory.path().exists());
    directory.good(&["down"]);
}

/// A program that accepts all settings but one value. It cannot serve.
fn program(directory: &Path) -> PathBuf {
    let path = directory.join("relay");
    std::fs::write(
        &path,
        "#!/bin/sh\n[ \"$*\" = check-config ] && [ \"$RELAY_LOG_LEVEL\" != lots ] && exit\n\
         echo \"bad: RELAY_LOG_LEVEL\" >&2; exit 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn program_and_settings_are_kept_and_what_is_wrong_is_not() {
    let (directory, programs) = (Directory::new(), tempfile::tempdir().unwrap());
    let program = program(programs.path()).canonicalize().unwrap();
    let program = program.to_str().unwrap();
    let settings = |directory: &Directory| directory.state()["settings"].clone();
    directory.good(&["up", "--relays", "0", "--replicas", "0", "--relay", program]);
    directory.good(&["roll", "--set", "RELAY_LOG_LEVEL=debug", "--set", "RELAY_INFO_NAME=ours"]);
    assert_eq!(directory.state()["relay_program"], program);

    for command in ["roll", "up"] {
        let error = directory.bad(&[command, "--set", "RELAY_LOG_LEVEL=lots"]);
        assert!(error.contains("bad: RELAY_LOG_LEVEL"), "{error}");
        assert_eq!(settings(&directory), json!({"RELAY_LOG_LEVEL": "debug", "RELAY_INFO_NAME": "ours"}));
    }
    directory.good(&["roll", "--unset", "RELAY_LOG_LEVEL"]);
    assert_eq!(settings(&directory), json!({"RELAY_INFO_NAME": "ours"}));
    // As a setting that an older program has accepted.
    directory.change_state("settings", json!({"RELAY_LOG_LEVEL": "lots"}));
    assert!(directory.bad(&["roll"]).contains("bad: RELAY_LOG_LEVEL"), "control");
    directory.good(&["up", "--unset", "RELAY_LOG_LEVEL"]);
}

#[test]
fn what_haproxy_cannot_have_is_refused_before_anything_is_saved() {
    let (directory, programs) = (Directory::new(), tempfile::tempdir().unwrap());
    let program = program(programs.path());
    let program = program.to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let up = ["up", "--relays", "1", "--replicas", "0", "--relay", program, "--port", &port];
    assert!(directory.bad(&up).contains("--port"));
    let spaced = Directory(tempfile::Builder::new().prefix("a b").tempdir().unwrap());
    let free = deploy::free_port().unwrap().to_string();
    let error = spaced.bad(&[&up[..8], &[&free]].concat());
    assert!(error.contains("front.runtime_socket"), "{error}");
    for directory in [&directory, &spaced] {
        assert!(!directory.path().join("cluster.json").exists());
        assert_eq!(directory.status(), Vec::<Value>::new());
    }

    // While HAProxy does not run, another port can be chosen.
    let servers = ["up", "--relays", "0", "--replicas", "0", "--port"];
    directory.good(&[&servers[..], &[&port]].concat());
    directory.good(&[&servers[..], &[&free]].concat());
    assert_eq!(directory.state()["front"]["port"].to_string(), free);
}

#[test]
fn a_directory_with_something_else_is_refused() {
    let directory = Directory::new();
    std::fs::write(directory.path().join("thesis.tex"), "").unwrap();
    let error = directory.bad(&["up", "--relays", "0"]);
    assert!(error.contains("thesis.tex"), "{error}");
    assert!(directory.bad(&["scale", "--relays", "2"]).contains("no cluster"));
}
