//! One process of the cluster: starts it, finds it again in a later run, and ends it.

use crate::{Error, Home, STEP_TIMEOUT, until};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How long a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until its [`Process`] is dropped, or the process that started it dies in any way.
    Guarded,
    /// In a session of its own, until a command ends it.
    Detached,
}

/// A user that a program runs as.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

impl User {
    /// The user for Postgres's programs: `postgres` where this process runs as root, which they refuse; otherwise the
    /// same user (`None`).
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such user.
    pub fn for_postgres() -> Result<Option<Self>, Error> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(Error::io("reading /etc/passwd"))?;
        let user = users.lines().find_map(|line| {
            let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
            Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        });
        user.map(Some).ok_or_else(|| Error::Missing { program: "the user postgres".to_owned(), package: "postgresql" })
    }
}

/// A process to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The name of the process in messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables to add to the environment.
    pub environment: Vec<(String, String)>,
    /// Variables whose names begin with these are not inherited.
    pub hidden: &'static [&'static str],
    /// The working directory.
    pub folder: PathBuf,
    /// The home: the output is appended to its `logs/NAME.log`, and a detached process is stored there at once.
    pub home: Arc<Home>,
    /// The user that it runs as; `None`: the user of this process.
    pub user: Option<User>,
    /// How long it runs.
    pub life: Life,
    /// The signal that ends it when its handle is dropped.
    pub last_signal: Signal,
}

impl Launch {
    /// Starts it, and does not wait until it is ready.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be started.
    pub fn start(&self) -> Result<Process, Error> {
        let failed = |what: &str| Error::io(format!("{what} {}", self.name));
        let log = self.home.log(&self.name);
        let output = File::options().create(true).append(true).open(&log).map_err(failed("opening the log of"))?;
        let errors = output.try_clone().map_err(failed("opening the log of"))?;
        let mut command = match self.life {
            Life::Guarded => Command::new(&self.program),
            Life::Detached => {
                let mut command = Command::new("setsid");
                command.arg(&self.program);
                command
            }
        };

        if self.life == Life::Guarded {
            // In a process group of its own: a Ctrl-C must reach the test, which then ends its servers in order.
            command.process_group(0);
        }
        command.args(&self.arguments).current_dir(&self.folder);
        prepare(&mut command, self.hidden, self.user);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(failed("starting"))?;
        let pid = Pid::from_child(&child);
        let guard = match self.life {
            Life::Guarded => Some(Guard::new(child, self.last_signal)?),
            Life::Detached => None,
        };

        // A process that is not reaped yet has an entry in /proc, even if it has ended already.
        let identity = Identity::of(pid).ok_or_else(|| ended(&self.name, &log))?;
        if self.life == Life::Detached {
            self.home.remember(&self.name, identity)?;
        }
        Ok(Process { name: self.name.clone(), log, identity, guard })
    }
}

/// Hides variables and sets the user.
pub(crate) fn prepare(command: &mut Command, hidden: &[&str], user: Option<User>) {
    for (name, _) in std::env::vars_os() {
        if hidden.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
}

/// Identifies a process, also after its id was given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since the machine started.
    pub started: u64,
}

impl Identity {
    fn of(pid: Pid) -> Option<Self> {
        let stat = Stat::read(pid.as_raw_nonzero().get())?;
        Some(Self { pid: stat.pid, started: stat.started })
    }

    /// Whether the process runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && !matches!(stat.state, 'Z' | 'X'))
    }
}

/// Some fields of /proc/PID/stat.
struct Stat {
    pid: i32,
    state: char,
    parent: i32,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may contain spaces and parentheses; the state comes after the last parenthesis.
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

/// A process that was started here or by an earlier run.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    identity: Identity,
    guard: Option<Guard>,
}

impl Process {
    /// Finds a detached process that an earlier run of this program started below `home`, if it still runs.
    pub fn find(name: &str, home: &Home) -> Option<Self> {
        let identity = home.remembered(name).filter(Identity::is_alive)?;
        Some(Self { name: name.to_owned(), log: home.log(name), identity, guard: None })
    }

    /// Its identity.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.identity.is_alive()
    }

    /// Fails, with the end of its log, unless it runs.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub fn check(&self) -> Result<(), Error> {
        if self.is_alive() { Ok(()) } else { Err(ended(&self.name, &self.log)) }
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            send(self.identity.pid, signal);
        }
    }

    /// Sends a signal to it and to the processes that it started itself.
    ///
    /// Postgres's backends are such children: a `SIGSTOP` to the postmaster alone would leave them running.
    pub fn signal_all(&self, signal: Signal) {
        if !self.is_alive() {
            return;
        }
        let children = children(self.identity.pid);
        send(self.identity.pid, signal);
        for child in children.iter().filter(|child| child.is_alive()) {
            send(child.pid, signal);
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`Error::Timeout`] when `patience` ends first.
    pub async fn ended(&self, patience: Duration) -> Result<(), Error> {
        until(&format!("{} to end", self.name), patience, async || {
            if self.is_alive() { Err("it runs".to_owned()) } else { Ok(()) }
        })
        .await
    }

    /// Asks it to end by `signal`, waits, and kills it if it does not end in time. True: it ended by itself.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it runs even after that.
    pub async fn stop(self, signal: Signal, patience: Duration) -> Result<bool, Error> {
        self.signal(signal);
        if self.ended(patience).await.is_ok() {
            return Ok(true);
        }
        self.kill().await.map(|()| false)
    }

    /// Sends SIGKILL to it and its children, as when the machine dies; returns when all of them are gone.
    ///
    /// # Errors
    /// [`Error::Timeout`] if one does not go.
    pub async fn kill(&self) -> Result<(), Error> {
        let children = if self.is_alive() { children(self.identity.pid) } else { Vec::new() };
        self.signal(Signal::KILL);
        for child in children.iter().filter(|child| child.is_alive()) {
            send(child.pid, Signal::KILL);
        }
        self.ended(STEP_TIMEOUT).await?;
        until(&format!("the children of {} to end", self.name), STEP_TIMEOUT, async || {
            let alive = children.iter().filter(|child| child.is_alive()).count();
            if alive == 0 { Ok(()) } else { Err(format!("{alive} run")) }
        })
        .await
    }
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended a moment ago.
        let _ = kill_process(pid, signal);
    }
}

fn children(parent: i32) -> Vec<Identity> {
    let stats = pids().filter_map(Stat::read).filter(|stat| stat.parent == parent);
    stats.map(|stat| Identity { pid: stat.pid, started: stat.started }).collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes with this working directory. Zombies have none.
pub(crate) fn working_in(folder: &Path) -> Vec<i32> {
    pids().filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)).collect()
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    const BYTES: u64 = 4000;
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("({error})"))
}

fn ended(name: &str, log: &Path) -> Error {
    Error::Ended { name: name.to_owned(), log: log.to_owned(), output: tail(log) }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.guard.is_some() && std::thread::panicking() {
            eprintln!("--- the end of the log of {}:\n{}---", self.name, tail(&self.log));
        }
    }
}

/// Ends a process when it is dropped, or when the process that holds it dies.
#[derive(Debug)]
struct Guard {
    child: Child,
    watchdog: Child,
    last_signal: Signal,
}

impl Guard {
    fn new(mut child: Child, last_signal: Signal) -> Result<Self, Error> {
        // The shell reads from a pipe that only this process holds open: when this process dies, the read ends. It is
        // in a process group of its own, so that a signal to the test's group does not end the watchdog first.
        let script = "trap '' INT TERM HUP; read _; kill -s \"$1\" \"$2\"; kill -s CONT \"$2\"";
        let watchdog = Command::new("sh")
            .args(["-c", script, "watchdog", &last_signal.as_raw().to_string(), &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self { child, watchdog, last_signal }),
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::Io { what: "starting a watchdog".to_owned(), source })
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The watchdog first: once its target is reaped, another process may get the target's id.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, self.last_signal);
        let _ = kill_process(pid, Signal::CONT);
        let _ = self.child.wait();
    }
}
