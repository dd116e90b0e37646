//! Real client libraries against the real binary: nostr-tools on Node and nostr-sdk on Python publish, query, count,
//! follow, delete and authenticate, and hold every answer against a model of their own (`relay/tests/clients/`).

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use process::{Relay, Setup};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

#[test]
fn nostr_tools_agrees_with_the_relay() {
    agrees(&mut nostr_tools());
}

#[test]
fn nostr_sdk_agrees_with_the_relay() {
    let python = installed("venv/.installed").join("venv/bin/python");
    agrees(Command::new(python).arg("-B").arg(sources().join("nostr_sdk_check.py")));
}

/// The control: the check sees a relay that hands gift wraps to strangers.
#[test]
fn nostr_tools_disagrees_with_a_relay_that_keeps_nothing_private() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).set("access-private-kinds", "").start();
    let (succeeded, said) = run(&mut nostr_tools(), &relay);
    assert!(!succeeded && said.contains("a stranger asked for gift wraps"), "{said}");
    relay.stop();
}

fn agrees(script: &mut Command) {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).start();
    let (succeeded, said) = run(script, &relay);
    println!("{said}");
    assert!(succeeded, "{said}");
    relay.stop();
}

/// Whether a script is content with a relay, and what it said.
fn run(script: &mut Command, relay: &Relay) -> (bool, String) {
    let output = script.arg(relay.url()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn nostr_tools() -> Command {
    // Node looks for libraries from the script's own place upwards, so the scripts go where the libraries are.
    static COPIED: Once = Once::new();
    let scripts = installed("node_modules/.installed").join("nostr-tools-check");
    COPIED.call_once(|| {
        std::fs::create_dir_all(&scripts).unwrap();
        for entry in std::fs::read_dir(sources()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "mjs") {
                std::fs::copy(&path, scripts.join(path.file_name().unwrap())).unwrap();
            }
        }
    });
    let mut command = Command::new("node");
    command.arg(scripts.join("nostr_tools.mjs"));
    command
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
