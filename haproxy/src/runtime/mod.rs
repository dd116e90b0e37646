//! A client for HAProxy's Runtime API: changes without a reload, over its Unix socket.

mod socket;
mod state;

pub use state::{ServerState, Status};

pub(crate) use socket::ask;

use crate::model::Server;
use crate::render::{BACKEND, RenderError, server_arguments};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause between two looks at a state.
const LOOK: Duration = Duration::from_millis(50);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Its socket could not be used.
    #[error("HAProxy's socket {}: {error}", .socket.display())]
    Socket {
        /// The socket's path.
        socket: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// It refused a command.
    #[error("HAProxy refused `{command}`: {answer}")]
    Refused {
        /// The command.
        command: String,
        /// The answer.
        answer: String,
    },
    /// Its answer does not have the format of the known versions.
    #[error("HAProxy's answer to `{0}` cannot be read")]
    Answer(&'static str),
    /// A relay's host has no address.
    #[error("the address of {host} is not to be had: {error}")]
    Host {
        /// The host.
        host: String,
        /// What happened.
        error: io::Error,
    },
    /// The server still had connections when the time was up. It stays drained.
    #[error("{server} still has {connections} connections")]
    Busy {
        /// The server.
        server: String,
        /// How many.
        connections: u64,
    },
    /// The server's line could not be written.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// A client of one HAProxy process. Every call opens a connection and takes at most a few seconds.
///
/// A cancelled call may have taken effect or not. All calls but [`add`](Self::add) and [`remove`](Self::remove) are
/// idempotent.
#[derive(Debug, Clone)]
pub struct Runtime {
    socket: PathBuf,
}

impl Runtime {
    /// A client for the socket that the cluster's `front.runtime_socket` names.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Sends one command and returns the answer.
    pub async fn ask(&self, command: &str) -> Result<String, RuntimeError> {
        ask(&self.socket, command).await
    }

    /// The relays' states in HAProxy.
    pub async fn servers(&self) -> Result<Vec<ServerState>, RuntimeError> {
        let table = self.ask(&format!("show stat {BACKEND} 4 -1")).await?;
        state::parse(&table).ok_or(RuntimeError::Answer("show stat"))
    }

    /// Adds a server, which gets clients once it has passed a check. Its host must have an address now. A reload keeps
    /// it only where the configuration file has it too: the caller must render that as well.
    pub async fn add(&self, server: &Server) -> Result<(), RuntimeError> {
        // HAProxy does not resolve the names of servers that the Runtime API adds.
        let address = (server.host.trim_matches(['[', ']']), server.port);
        let found = tokio::net::lookup_host(address).await.and_then(|mut found| {
            found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
        });
        let address = found.map_err(|error| RuntimeError::Host { host: server.host.clone(), error })?;
        let id = id(&server.name);
        self.order(&format!("add server {id} {address} {}", server_arguments(server)?)).await?;
        self.order(&format!("enable health {id}")).await?;
        if server.agent_port > 0 {
            // The server stays down until its agent answers "up", which a weight alone does not do.
            self.order(&format!("enable agent {id}")).await?;
        }
        self.order(&format!("enable server {id}")).await
    }

    /// Stops new clients for a server, until [`ready`](Self::ready); its present clients stay.
    pub async fn drain(&self, server: &str) -> Result<(), RuntimeError> {
        self.order(&format!("set server {} state drain", id(server))).await
    }

    /// Ends a [`drain`](Self::drain).
    pub async fn ready(&self, server: &str) -> Result<(), RuntimeError> {
        self.order(&format!("set server {} state ready", id(server))).await
    }

    /// Drains a server, waits up to `patience` until it has no clients left, and removes it.
    pub async fn remove(&self, server: &str, patience: Duration) -> Result<(), RuntimeError> {
        let deadline = Instant::now() + patience;
        // Drained first, since maintenance ends its connections.
        self.drain(server).await?;
        loop {
            let found = self.servers().await?.into_iter().find(|state| state.name == server);
            let connections = found.map_or(0, |state| state.connections + state.waiting);
            if connections == 0 {
                break;
            }
            if Instant::now() >= deadline {
                return Err(RuntimeError::Busy { server: server.to_owned(), connections });
            }
            sleep(LOOK).await;
        }

        // Else its agent could make it ready again. HAProxy refuses this for a server without an agent.
        let _ = self.order(&format!("disable agent {}", id(server))).await;
        self.order(&format!("set server {} state maint", id(server))).await?;
        loop {
            match self.order(&format!("del server {}", id(server))).await {
                // HAProxy may still have an idle connection to the relay, which it closes first.
                Err(RuntimeError::Refused { answer, .. })
                    if answer.contains("connections") && Instant::now() < deadline => {}
                done => return done,
            }
            sleep(LOOK).await;
        }
    }

    /// Ends all connections of a server.
    pub async fn disconnect(&self, server: &str) -> Result<(), RuntimeError> {
        self.order(&format!("shutdown sessions server {}", id(server))).await
    }

    /// Sets the certificate (PEM: certificate, chain, key) for new TLS handshakes. `certificate` is the path in the
    /// configuration. The caller must write that file as well: else the next reload brings the old one back.
    pub async fn replace_certificate(&self, certificate: &Path, pem: &str) -> Result<(), RuntimeError> {
        let path = certificate.display();
        // In the Runtime API an empty line ends the command.
        let lines: Vec<_> = pem.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let set = self.ask(&format!("set ssl cert {path} <<\n{}\n", lines.join("\n"))).await?;
        let refused =
            |what, answer: String| RuntimeError::Refused { command: format!("{what} ssl cert {path}"), answer };
        if !set.contains("Transaction created") && !set.contains("Transaction updated") {
            return Err(refused("set", set.trim().to_owned()));
        }

        let commit = self.ask(&format!("commit ssl cert {path}")).await?;
        if commit.contains("Success!") {
            return Ok(());
        }

        // Else the next call would continue this transaction.
        let _ = self.ask(&format!("abort ssl cert {path}")).await;
        Err(refused("commit", commit.trim().to_owned()))
    }

    /// Writes the servers' states to the file from which the next process reads them (`front.state_file`).
    pub async fn save_state(&self, state_file: &Path) -> Result<(), RuntimeError> {
        let states = self.ask("show servers state").await?;
        let written = async {
            let fresh = state_file.with_extension("new");
            tokio::fs::write(&fresh, states).await?;
            tokio::fs::rename(&fresh, state_file).await
        };
        written.await.map_err(|error| RuntimeError::Socket { socket: state_file.to_owned(), error })
    }

    /// Sends a command that answers nothing, or only that it succeeded.
    async fn order(&self, command: &str) -> Result<(), RuntimeError> {
        let answer = self.ask(command).await?;
        let answer = answer.trim();
        let good = ["New server registered", "Server deleted"];
        if answer.is_empty() || good.iter().any(|good| answer.contains(good)) {
            return Ok(());
        }
        Err(RuntimeError::Refused { command: command.to_owned(), answer: answer.to_owned() })
    }
}

fn id(server: &str) -> String {
    format!("{BACKEND}/{server}")
}
