//! HAProxy's Runtime API: what can be changed without a reload, over its Unix socket.

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

/// How often a state is looked at that something waits for.
const LOOK: Duration = Duration::from_millis(50);

/// Why HAProxy did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Its socket could not be used.
    #[error("HAProxy's socket {}: {error}", .socket.display())]
    Socket {
        /// Which one.
        socket: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// It refused; these are its words.
    #[error("HAProxy refused `{command}`: {answer}")]
    Refused {
        /// What it was asked.
        command: String,
        /// What it said.
        answer: String,
    },
    /// Its answer has another shape than that of the versions we know.
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
    /// The server still had this many connections when the time was up. It stays drained: it gets no new ones.
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

/// A client of one HAProxy process. Every call is a connection of its own and takes at most some seconds.
///
/// A call that is cancelled may or may not have happened; all but [`add`](Self::add) and [`remove`](Self::remove) may
/// be made again without harm.
#[derive(Debug, Clone)]
pub struct Runtime {
    socket: PathBuf,
}

impl Runtime {
    /// For the socket that the cluster's `front.runtime_socket` names.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// What HAProxy answers to one command.
    pub async fn ask(&self, command: &str) -> Result<String, RuntimeError> {
        ask(&self.socket, command).await
    }

    /// The relays, as HAProxy sees them.
    pub async fn servers(&self) -> Result<Vec<ServerState>, RuntimeError> {
        let table = self.ask(&format!("show stat {BACKEND} 4 -1")).await?;
        state::parse(&table).ok_or(RuntimeError::Answer("show stat"))
    }

    /// Adds a server and lets it take clients once it has passed a check. Its host must have an address now. A reload
    /// keeps it only where the configuration file has it too: render that as well.
    pub async fn add(&self, server: &Server) -> Result<(), RuntimeError> {
        // Servers of the Runtime API are never looked up.
        let address = (server.host.trim_matches(['[', ']']), server.port);
        let found = tokio::net::lookup_host(address).await.and_then(|mut found| {
            found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
        });
        let address = found.map_err(|error| RuntimeError::Host { host: server.host.clone(), error })?;
        let id = id(&server.name);
        self.order(&format!("add server {id} {address} {}", server_arguments(server)?)).await?;
        self.order(&format!("enable health {id}")).await?;
        if server.agent_port > 0 {
            // Down until the agent says "up", which a weight alone does not.
            self.order(&format!("enable agent {id}")).await?;
        }
        self.order(&format!("enable server {id}")).await
    }

    /// Sends a server no new clients; those it has stay. Until [`ready`](Self::ready).
    pub async fn drain(&self, server: &str) -> Result<(), RuntimeError> {
        self.order(&format!("set server {} state drain", id(server))).await
    }

    /// Takes a [`drain`](Self::drain) back.
    pub async fn ready(&self, server: &str) -> Result<(), RuntimeError> {
        self.order(&format!("set server {} state ready", id(server))).await
    }

    /// Sends a server no new clients, waits up to `patience` until it has none left, and removes it.
    pub async fn remove(&self, server: &str, patience: Duration) -> Result<(), RuntimeError> {
        let deadline = Instant::now() + patience;
        // Not maintenance at once: that ends its connections.
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
        // Else the agent could bring it back to life; refused where there is none.
        let _ = self.order(&format!("disable agent {}", id(server))).await;
        self.order(&format!("set server {} state maint", id(server))).await?;
        loop {
            match self.order(&format!("del server {}", id(server))).await {
                // An idle connection to the relay, kept for later use, is closed first.
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

    /// New TLS handshakes get this certificate (PEM: certificate, chain, key). `certificate` is the path in the
    /// configuration; write the file as well, or the next reload brings the old one back.
    pub async fn replace_certificate(&self, certificate: &Path, pem: &str) -> Result<(), RuntimeError> {
        let path = certificate.display();
        // An empty line would end the command.
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
        // Else the next try would build on this one.
        let _ = self.ask(&format!("abort ssl cert {path}")).await;
        Err(refused("commit", commit.trim().to_owned()))
    }

    /// Writes the servers' states to where the next process reads them (`front.state_file`).
    pub async fn save_state(&self, state_file: &Path) -> Result<(), RuntimeError> {
        let states = self.ask("show servers state").await?;
        let written = async {
            let fresh = state_file.with_extension("new");
            tokio::fs::write(&fresh, states).await?;
            tokio::fs::rename(&fresh, state_file).await
        };
        written.await.map_err(|error| RuntimeError::Socket { socket: state_file.to_owned(), error })
    }

    /// A command that answers nothing, or a word of success.
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
