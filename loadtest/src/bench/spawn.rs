//! Starts a relay on free ports with a database of its own, and stops it by its process id.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why the relay did not run.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program could not be started.
    #[error("cannot start {program:?}: {error}")]
    Start {
        /// Its path.
        program: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// It ended by itself.
    #[error("{what} ended with {status}; the end of its log:\n{log}")]
    Ended {
        /// Which command it ran.
        what: &'static str,
        /// Its exit status.
        status: String,
        /// Its last lines.
        log: String,
    },
    /// It did not become ready in time.
    #[error("the relay was not ready after {READY_WITHIN:?}; the end of its log:\n{0}")]
    NotReady(String),
    /// An error of a file or a port.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How to run a relay: its program and the place of its data.
#[derive(Debug, Clone)]
pub struct Relay {
    /// The relay's binary.
    pub program: PathBuf,
    /// Its configuration file, where the defaults do not suit.
    pub config: Option<PathBuf>,
    /// Its database's URL; `None`: an SQLite file in `directory`.
    pub database: Option<String>,
    /// The directory of its log and its database.
    pub directory: PathBuf,
}

/// A running relay. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its WebSocket URL.
    pub url: String,
}

impl Relay {
    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(subcommand).current_dir(&self.directory).stdin(Stdio::null());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let own = || format!("sqlite:{}", self.directory.join("relay.db").display());
        command.env("RELAY_DATABASE_URLS", self.database.clone().unwrap_or_else(own));
        command
    }

    fn log(&self) -> PathBuf {
        self.directory.join("relay.log")
    }

    fn start(&self, mut command: Command) -> Result<Child, SpawnError> {
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        command.stdout(log.try_clone()?).stderr(log);
        command.spawn().map_err(|error| SpawnError::Start { program: self.program.clone(), error })
    }

    /// Loads a file of events without checking their signatures (`relay import --no-verify FILE`).
    ///
    /// # Errors
    /// The program cannot be started or fails.
    pub fn import(&self, file: &Path) -> Result<(), SpawnError> {
        let mut command = self.command("import");
        command.arg("--no-verify").arg(std::path::absolute(file)?);
        let status = self.start(command)?.wait()?;
        if status.success() { Ok(()) } else { Err(self.ended("relay import", status.to_string())) }
    }

    /// Starts serving on free ports of 127.0.0.1 and waits until its `/ready` is 200.
    ///
    /// # Errors
    /// The program cannot be started, ends, or is not ready within a minute.
    pub fn serve(&self) -> Result<Running, SpawnError> {
        let (listen, admin) = free_ports()?;
        let mut command = self.command("serve");
        command.env("RELAY_LISTEN", listen.to_string()).env("RELAY_ADMIN_LISTEN", admin.to_string());
        let mut running = Running { child: self.start(command)?, url: format!("ws://{listen}") };
        let ends = Instant::now() + READY_WITHIN;
        while !is_ready(admin) {
            if let Some(status) = running.child.try_wait()? {
                return Err(self.ended("relay serve", status.to_string()));
            }
            if Instant::now() > ends {
                return Err(SpawnError::NotReady(self.last_lines()));
            }
            pause();
        }
        Ok(running)
    }

    fn ended(&self, what: &'static str, status: String) -> SpawnError {
        SpawnError::Ended { what, status, log: self.last_lines() }
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().collect::<Vec<_>>();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits until it has; kills it when that takes more than 30 s. Returns how long it took.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn stop(mut self) -> io::Result<Duration> {
        let start = Instant::now();
        self.end(STOP_WITHIN)?;
        Ok(start.elapsed())
    }

    fn end(&mut self, within: Duration) -> io::Result<()> {
        let ends = Instant::now() + within;
        // The id is still its own: the system gives it to no other process before `wait` returns.
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        }
        while self.child.try_wait()?.is_none() {
            if Instant::now() > ends {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            pause();
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` the process has ended. Without `stop` an error is being reported, which must not wait for long.
        let _ = self.end(Duration::from_secs(2));
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> io::Result<(SocketAddr, SocketAddr)> {
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((one.local_addr()?, other.local_addr()?))
}

/// Pauses between two looks at a process: the process cannot wake this one.
#[expect(clippy::disallowed_methods, reason = "the callers wait on a state, with a deadline")]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /ready HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut status = String::new();
        BufReader::new(stream.take(4096)).read_line(&mut status)?;
        io::Result::Ok(status.split(' ').nth(1) == Some("200"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(directory: &Path, program: &str) -> Relay {
        let program = PathBuf::from(program);
        Relay { program, config: None, database: None, directory: directory.to_owned() }
    }

    #[test]
    fn a_relay_that_can_t_run_is_told_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        // A program that does not know the subcommand fails and says so.
        let error = relay(directory.path(), "/bin/sh").serve().unwrap_err();
        assert!(matches!(&error, SpawnError::Ended { log, .. } if log.contains("serve")), "{error}");
        let error = relay(directory.path(), "/bin/ls").import(Path::new("none.jsonl")).unwrap_err();
        assert!(matches!(&error, SpawnError::Ended { log, .. } if log.contains("no-verify")), "{error}");
        let error = relay(directory.path(), "/does/not/exist").serve().unwrap_err();
        assert!(matches!(error, SpawnError::Start { .. }), "{error}");
    }

    #[test]
    fn a_running_process_is_stopped_by_its_id() {
        let child = Command::new("/bin/sleep").arg("600").spawn().unwrap();
        let running = Running { child, url: String::new() };
        assert!(running.stop().unwrap() < STOP_WITHIN);
        // A process that ignores TERM is killed after its time; dash keeps the trap, so TERM changes nothing.
        let mut child = Command::new("/bin/sh");
        child.args(["-c", "trap '' TERM; echo on; exec sleep 600"]).stdout(Stdio::piped());
        let mut running = Running { child: child.spawn().unwrap(), url: String::new() };
        let mut line = String::new();
        BufReader::new(running.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        running.end(Duration::from_millis(50)).unwrap();
        assert!(!running.child.try_wait().unwrap().unwrap().success());
    }
}
