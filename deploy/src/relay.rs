//! A relay process.

use crate::process::{Launch, Life, Process, prepare};
use crate::recording::Target;
use crate::wait::ready;
use crate::{Error, Home, STEP_TIMEOUT, Signal, free_port, http};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Variables of this process that a relay must not inherit as its settings.
const HIDDEN: &[&str] = &["RELAY_"];

/// A relay on its own ports, which restarts do not change.
#[derive(Debug)]
pub struct Relay {
    /// `relay-1`, ...
    pub name: String,
    /// Where clients connect, on 127.0.0.1.
    pub port: u16,
    /// The port of its admin listener, on 127.0.0.1.
    pub admin_port: u16,
    /// The program; a rolling update changes it between stop and start.
    pub program: PathBuf,
    /// Its settings as environment variables, `RELAY_...`; changes take effect at the next start.
    pub settings: Vec<(String, String)>,
    life: Life,
    process: Option<Process>,
    home: Arc<Home>,
}

impl Relay {
    /// A relay that is not started yet. It does not inherit this process's own `RELAY_...` variables.
    ///
    /// # Errors
    /// [`Error::State`] if there are no free ports.
    pub fn new(name: &str, program: &Path, home: Arc<Home>) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            port: free_port()?,
            admin_port: free_port()?,
            program: program.to_owned(),
            settings: Vec::new(),
            life: Life::Guarded,
            process: None,
            home,
        })
    }

    /// Adds a setting: `("RELAY_REDIS_URL", "redis://...")`.
    pub fn set(mut self, variable: &str, value: impl Into<String>) -> Self {
        self.settings.retain(|(known, _)| known != variable);
        self.settings.push((variable.to_owned(), value.into()));
        self
    }

    /// Sets how long the process runs; by default as long as its handle exists. A detached one may run already.
    pub fn life(mut self, life: Life) -> Self {
        self.life = life;
        if life == Life::Detached {
            self.process = Process::find(&self.name, &self.home);
        }
        self
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// The path of its log.
    pub fn log(&self) -> PathBuf {
        self.home.log(&self.name)
    }

    /// Its process, unless it was stopped.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Whether its process runs.
    pub fn is_alive(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_alive)
    }

    /// Starts it, if it does not run, and waits until `/ready` answers 200. A relay that is about to end is started
    /// again once it has ended.
    ///
    /// # Errors
    /// [`Error::Ended`] with its log if it ends.
    pub async fn start(&mut self) -> Result<(), Error> {
        let ran = self.is_alive();
        self.spawn()?;
        match self.wait_ready().await {
            Err(Error::Ended { .. }) if ran => {
                self.spawn()?;
                self.wait_ready().await
            }
            done => done,
        }
    }

    async fn wait_ready(&self) -> Result<(), Error> {
        ready(&self.name, self.process.as_ref(), async || match self.get("/ready").await? {
            (200, _) => Ok(()),
            (status, body) => Err(Error::State(format!("/ready says {status}: {body}"))),
        })
        .await
    }

    /// Checks that its program accepts its settings; starts nothing.
    ///
    /// # Errors
    /// [`Error::Failed`] with the program's problems; [`Error::Io`].
    pub async fn check(&self) -> Result<(), Error> {
        let what = format!("{} check-config", self.program.display());
        let mut command = Command::new(&self.program);
        prepare(&mut command, HIDDEN, None);
        command.arg("check-config").envs(self.environment()).current_dir(self.home.path()).stdin(Stdio::null());
        let output = tokio::process::Command::from(command).output().await.map_err(Error::io(&what))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Failed { what, status: output.status.to_string(), output: words })
    }

    fn environment(&self) -> Vec<(String, String)> {
        let address = |port| format!("127.0.0.1:{port}");
        let addresses = [("RELAY_LISTEN", address(self.port)), ("RELAY_ADMIN_LISTEN", address(self.admin_port))];
        addresses.map(|(key, value)| (key.to_owned(), value)).into_iter().chain(self.settings.iter().cloned()).collect()
    }

    /// Starts it, if it does not run, and does not wait until it is ready.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn spawn(&mut self) -> Result<(), Error> {
        if self.is_alive() {
            return Ok(());
        }
        let launch = Launch {
            name: self.name.clone(),
            program: self.program.clone(),
            arguments: vec!["serve".into()],
            environment: self.environment(),
            hidden: HIDDEN,
            folder: self.home.folder(&self.name)?,
            home: self.home.clone(),
            user: None,
            life: self.life,
            last_signal: Signal::KILL,
        };

        self.process = Some(launch.start()?);
        Ok(())
    }

    /// Status and body of a GET on the operator's listener, within five seconds.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::State`] if the answer is no HTTP.
    pub async fn get(&self, path: &str) -> Result<(u16, String), Error> {
        http::get(&self.name, self.admin_port, path).await
    }

    /// Its metrics, as a target of scrapes.
    pub fn target(&self) -> Target {
        Target { job: "skein", instance: self.name.clone(), port: self.admin_port }
    }

    /// Sends it a signal: `STOP` makes it hang, `CONT` ends that, `HUP` makes it read its settings again.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Sends SIGTERM: it drains and ends. True: it ended by itself, within a minute.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it cannot be ended.
    pub async fn stop(&mut self) -> Result<bool, Error> {
        match self.process.take() {
            Some(process) => process.stop(Signal::TERM, STEP_TIMEOUT).await,
            None => Ok(true),
        }
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it does not go.
    pub async fn kill(&mut self) -> Result<(), Error> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// [`Error::Timeout`] when `patience` ends first.
    pub async fn ended(&self, patience: Duration) -> Result<(), Error> {
        match &self.process {
            Some(process) => process.ended(patience).await,
            None => Ok(()),
        }
    }
}
