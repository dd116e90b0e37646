//! Real client libraries against the real binary: nostr-tools on Node and nostr-sdk on Python publish, query, count,
//! follow, delete and authenticate, and compare every answer with a model of their own (`relay/tests/clients/`). Each
//! library that popular clients use goes through a session as its users do (`relay/tests/clients/libraries/`,
//! docs/clients.md).

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "clients/installed.rs"]
mod installed;
#[path = "process/mod.rs"]
mod process;
#[path = "clients/sessions.rs"]
mod sessions;

use installed::{node, python};
use process::{Relay, Setup};
use std::process::Command;

#[test]
fn nostr_tools_agrees_with_the_relay() {
    agrees(&mut node("nostr_tools.mjs"));
}

#[test]
fn nostr_sdk_agrees_with_the_relay() {
    agrees(&mut python("nostr_sdk_check.py"));
}

/// The control: the check finds a relay that sends gift wraps to strangers.
#[test]
fn nostr_tools_disagrees_with_a_relay_that_keeps_nothing_private() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Setup::new(folder.path()).set("access-private-kinds", "").start();
    let (succeeded, said) = run(&mut node("nostr_tools.mjs"), &relay);
    assert!(!succeeded && said.contains("a stranger asked for gift wraps"), "{said}");
    relay.stop();
}

fn agrees(script: &mut Command) {
    let folder = tempfile::tempdir().unwrap();
    // The events of the corpus, also ephemeral ones, have dates of many days.
    let relay = Setup::new(folder.path()).set("limits-max-ephemeral-age-seconds", "0").start();
    let (succeeded, said) = run(script, &relay);
    println!("{said}");
    assert!(succeeded, "{said}");
    relay.stop();
}

/// Whether a script succeeds with a relay, and its output.
fn run(script: &mut Command, relay: &Relay) -> (bool, String) {
    let output = script.arg(relay.url()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
