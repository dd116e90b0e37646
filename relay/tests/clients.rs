//! Real client libraries against the real binary: nostr-tools on Node and nostr-sdk on Python publish, query, count,
//! follow, delete and authenticate, and hold every answer against a model of their own (`relay/tests/clients/`).

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use process::Setup;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn nostr_tools_agrees_with_the_relay() {
    // Node looks for libraries from the script's own place upwards, so the scripts go where the libraries are.
    let scripts = installed("node_modules/.installed").join("nostr-tools-check");
    std::fs::create_dir_all(&scripts).unwrap();
    for entry in std::fs::read_dir(sources()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "mjs") {
            std::fs::copy(&path, scripts.join(path.file_name().unwrap())).unwrap();
        }
    }
    check(Command::new("node").arg(scripts.join("nostr_tools.mjs")));
}

#[test]
fn nostr_sdk_agrees_with_the_relay() {
    let python = installed("venv/.installed").join("venv/bin/python");
    check(Command::new(python).arg("-B").arg(sources().join("nostr_sdk_check.py")));
}

/// Runs a script against a relay of its own.
fn check(script: &mut Command) {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).start();
    let output = script.arg(relay.url()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{}\n{said}", output.status);
    relay.stop();
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Where `scripts/clients.sh` has put the libraries.
fn installed(stamp: &str) -> PathBuf {
    let clients = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients");
    assert!(clients.join(stamp).exists(), "the client libraries are not installed: run `make deps`");
    clients
}
