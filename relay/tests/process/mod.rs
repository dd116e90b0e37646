//! The relay as a separate process: started in a folder on free ports, observed through its log, stopped by signals.
//!
//! A relay that panicked, or logged a WARN or ERROR that the test did not announce, fails the test. When a test fails,
//! everything that its relays logged is printed.

#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

pub mod client;

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Far longer than any step takes on a busy machine.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// How a relay is to be started.
pub struct Setup {
    folder: PathBuf,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    expected: Vec<&'static str>,
}

impl Setup {
    /// A relay whose working directory is `folder`, where it has `relay.db`.
    pub fn new(folder: &Path) -> Self {
        let arguments = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"].map(String::from).to_vec();
        Self { folder: folder.to_owned(), arguments, wrapper: Vec::new(), expected: Vec::new() }
    }

    /// Listens where another relay has listened, so that its clients find this one.
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.arguments[1] = address.to_string();
        self
    }

    /// Sets one setting, as a flag: `("database-durability", "relaxed")`.
    pub fn set(mut self, flag: &str, value: &str) -> Self {
        self.arguments.extend([format!("--{flag}"), value.to_owned()]);
        self
    }

    /// Inverts a switch: `"admin-pprof"`.
    pub fn turn(mut self, flag: &str) -> Self {
        self.arguments.push(format!("--{flag}"));
        self
    }

    /// Announces WARN and ERROR lines that contain `words`.
    pub fn expect_log(mut self, words: &'static str) -> Self {
        self.expected.push(words);
        self
    }

    /// Runs the relay under another program, which must not fork: its process counts as the relay's.
    pub fn under(mut self, program_and_arguments: &[&str]) -> Self {
        self.wrapper = program_and_arguments.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Relay {
        let relay = self.spawn();
        relay.wait_for_log("point a Nostr client at ws://");
        relay.wait_for_log("operators: http://");
        let (status, body) = http_get(relay.admin_address(), "/ready", "*/*");
        assert_eq!(status, 200, "the relay says it is up, but is not ready: {body}");
        relay
    }

    /// Starts it and does not wait.
    pub fn spawn(self) -> Relay {
        let program = env!("CARGO_BIN_EXE_relay").to_owned();
        let words: Vec<String> = self.wrapper.into_iter().chain([program, "serve".to_owned()]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.arguments).current_dir(&self.folder);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RELAY_")) {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (stderr, lines) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || lines.follow(stderr));
        Relay { folder: self.folder, child, log, expected: self.expected, reaped: false }
    }
}

/// A running relay.
pub struct Relay {
    folder: PathBuf,
    child: Child,
    log: Arc<Log>,
    expected: Vec<&'static str>,
    reaped: bool,
}

impl Relay {
    /// Its working directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        address_after(&self.wait_for_log("point a Nostr client at ws://"), "ws://")
    }

    /// The address of the operator's pages.
    pub fn admin_address(&self) -> SocketAddr {
        address_after(&self.wait_for_log("operators: http://"), "http://")
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// The relay information document (NIP-11).
    pub fn information(&self) -> serde_json::Value {
        let (status, body) = http_get(self.address(), "/", "application/nostr+json");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits for a line of the log that contains `words`.
    pub fn wait_for_log(&self, words: &str) -> String {
        self.log.wait_for(words).unwrap_or_else(|| panic!("the relay never logged {words:?}"))
    }

    pub fn log(&self) -> String {
        self.log.state.lock().lines.join("\n")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + STEP_TIMEOUT;
        assert!(self.log.wait_for_end(deadline), "the relay does not end");
        self.reaped = true;
        self.child.wait().unwrap()
    }

    /// Sends SIGKILL, which for the database is like a crash.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait();
        self.check_log();
    }

    /// SIGTERM; the relay must end well.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "the relay ended with {status}");
        self.check_log();
    }

    /// Fails if the relay panicked, or logged a WARN or ERROR that was not announced.
    pub fn check_log(&self) {
        let state = self.log.state.lock();
        for line in &state.lines {
            let complains = matches!(line.split_whitespace().nth(1), Some("WARN" | "ERROR"));
            let announced = self.expected.iter().any(|words| line.contains(words));
            assert!(announced || !line.contains("panicked at"), "the relay panicked: {line}");
            assert!(!complains || announced, "the relay logged what nobody expected: {line}");
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the log of relay {}:\n{}\n---", self.child.id(), self.log());
        } else if !self.reaped {
            self.check_log();
        }
    }
}

/// What the relay has written to standard error.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn follow(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            self.state.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
            self.changed.notify_all();
        }
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    fn wait_for(&self, words: &str) -> Option<String> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        let mut state = self.state.lock();
        loop {
            if let Some(line) = state.lines.iter().find(|line| line.contains(words)) {
                return Some(line.clone());
            }
            if state.ended || self.changed.wait_until(&mut state, deadline).timed_out() {
                return None;
            }
        }
    }

    fn wait_for_end(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.ended {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }
}

fn address_after(line: &str, scheme: &str) -> SocketAddr {
    let rest = line.split(scheme).nth(1).unwrap();
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && !".:[]".contains(letter)).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
}

/// Status and body of one HTTP answer.
pub fn http_get(address: SocketAddr, path: &str, accept: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, body.to_owned())
}
