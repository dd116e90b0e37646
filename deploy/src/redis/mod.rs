//! Redis: one server, a master watched by Sentinels, or a Cluster.

mod cluster;
mod sentinel;

pub use cluster::RedisCluster;
pub use sentinel::Sentinels;

use crate::process::{Launch, Life, Process};
use crate::wait::ready;
use crate::{Error, Home, STEP_TIMEOUT, Signal, free_port};
use redis::{Client, Cmd, FromRedisValue};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One Redis server, which stores nothing on disk: the relay's bus and cache do not need that.
#[derive(Debug)]
pub struct RedisServer {
    /// `redis`, or `redis-1`, ...
    pub name: String,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    options: Vec<String>,
    /// Its configuration file, which it may rewrite.
    configuration: Option<PathBuf>,
    /// Where it listens for TLS.
    tls_port: Option<u16>,
    life: Life,
    process: Option<Process>,
    home: Arc<Home>,
}

impl RedisServer {
    /// A server that is not started yet.
    ///
    /// # Errors
    /// [`Error::State`] if there is no free port.
    pub fn new(name: &str, home: Arc<Home>) -> Result<Self, Error> {
        let port = free_port()?;
        let (options, configuration, life) = (Vec::new(), None, Life::Guarded);
        Ok(Self { name: name.to_owned(), port, options, configuration, tls_port: None, life, process: None, home })
    }

    /// Starts a server, with its few files in a temporary directory.
    ///
    /// # Errors
    /// [`Error::Missing`] without Redis; [`Error::Ended`] with its log if it ends.
    pub async fn temporary() -> Result<Self, Error> {
        let mut server = Self::new("redis", Home::temporary()?)?;
        server.start().await?;
        Ok(server)
    }

    /// Adds options: `&["--requirepass", "secret"]`.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Makes it listen for TLS too, with a [`certificate`](Self::certificate) of its own for 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::Io`] if the certificate cannot be written.
    pub fn with_tls(mut self) -> Result<Self, Error> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.map_err(|error| Error::State(format!("making a certificate: {error}")))?;
        let (certificate, key) = (self.certificate()?, self.home.folder(&self.name)?.join("key.pem"));
        for (path, text) in [(&certificate, made.cert.pem()), (&key, made.signing_key.serialize_pem())] {
            std::fs::write(path, text).map_err(Error::io(format!("writing {}", path.display())))?;
        }
        let port = free_port()?;
        self.tls_port = Some(port);
        let (port, certificate, key) = (port.to_string(), certificate.to_string_lossy(), key.to_string_lossy());
        let options = ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        Ok(self.options(&options).options(&["--tls-auth-clients", "no"]))
    }

    /// The certificate that clients of [`tls_url`](Self::tls_url) must trust.
    ///
    /// # Errors
    /// [`Error::Io`] if its directory cannot be made.
    pub fn certificate(&self) -> Result<PathBuf, Error> {
        Ok(self.home.folder(&self.name)?.join("certificate.pem"))
    }

    /// The URL for TLS, with `user` as `user:password`; `None` without TLS.
    pub fn tls_url(&self, user: &str) -> Option<String> {
        self.tls_port.map(|port| format!("rediss://{user}@127.0.0.1:{port}"))
    }

    /// Sets how long the process runs; by default as long as its handle exists. A detached one may run already.
    pub fn life(mut self, life: Life) -> Self {
        self.life = life;
        if life == Life::Detached {
            self.process = Process::find(&self.name, &self.home);
        }
        self
    }

    /// What clients connect to.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process, unless it was stopped.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Whether its process runs.
    pub fn is_alive(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_alive)
    }

    /// Starts it, if it does not run, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::Missing`] without Redis; [`Error::Ended`] with its log if it ends.
    pub async fn start(&mut self) -> Result<(), Error> {
        if !self.is_alive() {
            self.process = Some(self.launch()?.start()?);
        }
        ready(&self.name, self.process.as_ref(), async || {
            match self.ask::<String>(&redis::cmd("PING")).await {
                // It answers, though it wants a password.
                Err(Error::Redis { source, .. }) if source.code() == Some("NOAUTH") => Ok(()),
                answer => answer.map(drop),
            }
        })
        .await
    }

    fn launch(&self) -> Result<Launch, Error> {
        let port = self.port.to_string();
        let mut arguments: Vec<OsString> = self.configuration.iter().map(OsString::from).collect();
        arguments.extend(["--bind", "127.0.0.1", "--port", &port, "--daemonize", "no"].map(OsString::from));
        if !self.options.iter().any(|option| option == "--sentinel") {
            arguments.extend(["--save", "", "--appendonly", "no"].map(OsString::from));
        }
        arguments.extend(self.options.iter().map(OsString::from));
        Ok(Launch {
            name: self.name.clone(),
            program: program("redis-server")?,
            arguments,
            environment: Vec::new(),
            hidden: &[],
            folder: self.home.folder(&self.name)?,
            home: self.home.clone(),
            user: None,
            life: self.life,
            last_signal: Signal::KILL,
        })
    }

    /// Sends one command on a connection of its own, and waits at most two seconds.
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let asked = async {
            let mut connection = Client::open(self.url())?.get_multiplexed_async_connection().await?;
            command.query_async(&mut connection).await
        };
        let late = || (redis::ErrorKind::Io, "no answer in time").into();
        let answer = tokio::time::timeout(Duration::from_secs(2), asked).await.unwrap_or_else(|_| Err(late()));
        answer.map_err(Error::redis(format!("asking {}", self.name)))
    }

    /// Sends it a signal: `STOP` makes it hang, `CONT` ends that.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it cannot be ended.
    pub async fn stop(&mut self) -> Result<(), Error> {
        match self.process.take() {
            Some(process) => process.stop(Signal::TERM, STEP_TIMEOUT).await.map(drop),
            None => Ok(()),
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
}

/// Finds one of Redis's programs.
fn program(name: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.exists());
    found.ok_or_else(|| Error::Missing { program: name.to_owned(), package: "redis-server" })
}
