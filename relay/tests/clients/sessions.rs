//! One session for each library against the real relay, which restarts when the session asks for it. And the controls:
//! against a relay that breaks the promise of a step, that step of each session fails.

use crate::installed::{node, python};
use crate::process::{Relay, Setup};
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// A whole session takes 5 to 30 s on a quiet machine.
const SESSION_TIMEOUT: Duration = Duration::from_secs(240);

/// A script whose output is read line by line, so that it can ask for something. Dropping it ends the script.
struct Script {
    child: Child,
    lines: Receiver<String>,
    deadline: Instant,
    said: String,
}

impl Script {
    fn start(command: &mut Command) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::piped()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        // The command still holds the pipe's other end, which would keep the script's output from ending.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (sender, lines) = sync_channel(1_000);
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, deadline: Instant::now() + SESSION_TIMEOUT, said: String::new() }
    }

    /// The next line; `None` at the end of the output.
    fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.said += &format!("{line}\n");
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no end after {SESSION_TIMEOUT:?}:\n{}", self.said),
        }
    }

    /// Answers what the script has asked for.
    fn answer(&mut self, words: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{words}").unwrap();
    }

    /// Whether the script succeeded, and its output.
    fn finish(mut self) -> (bool, String) {
        while self.line().is_some() {}
        (self.child.wait().unwrap().success(), std::mem::take(&mut self.said))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a session, or the steps that are named, against a relay whose EOSE has hints. A relay that panics or warns
/// fails it too.
fn session(script: &mut Command, steps: &[&str]) {
    let (content, said) = run(script, steps, true);
    assert!(content, "{said}");
}

/// The same with EOSE hints on or off; whether the script is content, and what it said.
fn run(script: &mut Command, steps: &[&str], hints: bool) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let setup = || {
        let setup = Setup::new(folder.path());
        if hints { setup.turn("protocol-eose-hints") } else { setup }
    };
    let mut relay = setup().start();
    let address = relay.address();
    let mut script = Script::start(script.arg(relay.url()).args(steps));
    while let Some(line) = script.line() {
        if line == "@restart" {
            relay.stop();
            relay = setup().at(address).start();
            script.answer("it is back");
        }
    }
    let (content, said) = script.finish();
    println!("{said}");
    relay.stop();
    (content, said)
}

/// The controls: each of `steps` fails against a relay that breaks the promise of that step.
fn notices(script: &str, steps: &[&str]) {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let honest = Setup::new(folders[0].path()).start();
    let mut liar = Script::start(node("libraries/liar.mjs").arg(honest.url()));
    let mut lies: Map<String, Value> = serde_json::from_str(&liar.line().expect("the liar's ports")).unwrap();
    // This control needs no proxy: the relay's own setting makes nothing private.
    let open = open_relay(folders[1].path());
    lies.insert("gift wraps".to_owned(), open.url().into());

    let chosen: Map<String, Value> = steps.iter().map(|step| ((*step).to_owned(), lies[*step].clone())).collect();
    let (complained, said) = Script::start(node(script).arg("--lies").arg(Value::Object(chosen).to_string())).finish();
    println!("{said}");
    assert!(complained, "{said}");
    for step in steps {
        assert!(said.contains(&format!(", {step}: noticed: ")), "no complaint about {step:?}:\n{said}");
    }
    drop(liar);
    honest.stop();
    open.stop();
}

fn open_relay(folder: &Path) -> Relay {
    Setup::new(folder).set("access-private-kinds", "").start()
}

/// The steps whose control every library with live subscriptions can run.
const COMMON: [&str; 6] = ["profile", "feed", "live", "follows", "deletion", "gift wraps"];

#[test]
fn nostr_tools() {
    session(&mut node("libraries/nostr_tools.mjs"), &[]);
}

#[test]
fn nostr_tools_notices_lies() {
    notices(
        "libraries/nostr_tools.mjs",
        &[&COMMON[..], &["many filters", "empty lists", "count", "private beside public", "restart"]].concat(),
    );
}

#[test]
fn ndk() {
    session(&mut node("libraries/ndk.mjs"), &[]);
}

#[test]
fn ndk_notices_lies() {
    notices(
        "libraries/ndk.mjs",
        &[&COMMON[..], &["many filters", "empty lists", "count", "private beside public"]].concat(),
    );
    notices("libraries/ndk.mjs", &["idle"]);
}

#[test]
#[ignore = "six minutes and forty seconds of silence"]
fn ndk_idles_in_real_time() {
    session(&mut node("libraries/ndk.mjs"), &["idle in real time"]);
}

#[test]
fn applesauce_relay() {
    session(&mut node("libraries/applesauce.mjs"), &[]);
}

#[test]
fn applesauce_relay_notices_lies() {
    notices(
        "libraries/applesauce.mjs",
        &[&COMMON[..], &["many filters", "empty lists", "count", "private beside public", "restart", "pings"]].concat(),
    );
}

#[test]
fn welshman_net() {
    session(&mut node("libraries/welshman.mjs"), &[]);
}

/// This library sends each filter as a REQ of its own, so that a refusal of one does not affect the others.
#[test]
fn welshman_net_notices_lies() {
    notices("libraries/welshman.mjs", &[&COMMON[..], &["restart"]].concat());
}

/// Its schema knows an EOSE of two elements: the reason why hints are off by default.
#[test]
fn nostrify() {
    let (content, said) = run(&mut node("libraries/nostrify.mjs"), &[], false);
    assert!(content, "{said}");
}

#[test]
fn nostrify_misses_an_eose_with_hints() {
    let (content, said) = run(&mut node("libraries/nostrify.mjs"), &["profile"], true);
    assert!(!content, "it copes by now: docs/decisions/0016 may be decided anew\n{said}");
}

#[test]
fn nostrify_notices_lies() {
    notices(
        "libraries/nostrify.mjs",
        &[&COMMON[..], &["many filters", "empty lists", "count", "private beside public", "restart", "schema"]]
            .concat(),
    );
}

#[test]
fn rx_nostr() {
    session(&mut node("libraries/rx_nostr.mjs"), &[]);
}

#[test]
fn rx_nostr_notices_lies() {
    notices(
        "libraries/rx_nostr.mjs",
        &[&COMMON[..], &["many filters", "private beside public", "restart", "queue"]].concat(),
    );
}

/// It takes an EOSE with hints for a malformed one, and waits for each page until its time is up.
#[test]
fn nostr_fetch() {
    let (content, said) = run(&mut node("libraries/nostr_fetch.mjs"), &[], false);
    assert!(content && !said.contains(MALFORMED), "{said}");
}

#[test]
fn nostr_fetch_misses_an_eose_with_hints() {
    let (_, said) = run(&mut node("libraries/nostr_fetch.mjs"), &["profile"], true);
    assert!(said.contains(MALFORMED), "it copes by now: docs/decisions/0016 may be decided anew\n{said}");
}

const MALFORMED: &str = "malformed R2C EOSE";

#[test]
fn nostr_fetch_notices_lies() {
    notices("libraries/nostr_fetch.mjs", &["paging"]);
}

#[test]
fn nostr_sdk() {
    session(&mut python("libraries/nostr_sdk_session.py"), &[]);
}
