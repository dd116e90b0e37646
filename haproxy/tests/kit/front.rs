//! A HAProxy process, and clients of it.

use super::{FakeRelay, free_address, until};
use haproxy::{Cluster, Runtime, ServerState, Status, haproxy_cfg, process};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub struct Front {
    pub cluster: Cluster,
    pub runtime: Runtime,
    pub directory: TempDir,
    master: Child,
}

impl Front {
    /// Starts HAProxy in front of these relays, and waits until all are up; `change` edits the model first.
    pub async fn start(relays: &[&FakeRelay], change: impl FnOnce(&mut Cluster)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::local(directory.path(), free_address(), free_address());
        cluster.front.max_connections = 400;
        cluster.relay.check_interval_ms = 100;
        cluster.instances = relays.iter().map(|relay| relay.instance.clone()).collect();
        change(&mut cluster);
        let config = directory.path().join("haproxy.cfg");
        std::fs::write(&config, haproxy_cfg(&cluster).unwrap()).unwrap();
        process::check(&config).await.unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let master = Command::new(process::program())
            .args(process::arguments(&config, &directory.path().join("master.sock")))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let runtime = Runtime::new(&cluster.front.runtime_socket);

        let front = Self { cluster, runtime, directory, master };
        until("haproxy is up", async || front.runtime.servers().await.is_ok()).await;
        for relay in relays {
            front.sees(&relay.instance.name, Status::Up).await;
        }
        front
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("haproxy.cfg")
    }

    pub async fn state(&self, server: &str) -> Option<ServerState> {
        self.runtime.servers().await.unwrap().into_iter().find(|state| state.name == server)
    }

    pub async fn sees(&self, server: &str, status: Status) {
        let seen =
            async || self.state(server).await.is_some_and(|state| state.status == status && state.check != "INI");
        until(&format!("{server} is {status:?}"), seen).await;
    }

    /// Renders the model again and reloads.
    pub async fn reload(&self) -> Result<(), process::ProcessError> {
        self.reload_as(&haproxy_cfg(&self.cluster).unwrap()).await
    }

    /// Reloads with this file.
    pub async fn reload_as(&self, config: &str) -> Result<(), process::ProcessError> {
        std::fs::write(self.config(), config).unwrap();
        let master = self.directory.path().join("master.sock");
        process::reload(&self.config(), &self.runtime, &master, &self.cluster.front.state_file).await
    }

    pub async fn open(&self) -> Socket<TcpStream> {
        self.try_open("").await.unwrap()
    }

    pub async fn try_open(&self, headers: &str) -> io::Result<Socket<TcpStream>> {
        Socket::open(TcpStream::connect(self.address()).await?, headers).await
    }

    /// Opens `sockets` connections; returns them, and how many each of the named relays got.
    pub async fn spread(&self, sockets: usize, relays: &[&str]) -> (Vec<Socket<TcpStream>>, Vec<usize>) {
        let mut open = Vec::new();
        for _ in 0..sockets {
            open.push(self.open().await);
        }
        let count = |name: &&str| open.iter().filter(|socket| socket.relay == *name).count();
        let counts = relays.iter().map(count).collect();
        (open, counts)
    }

    pub fn address(&self) -> SocketAddr {
        self.cluster.front.listen[0]
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // A signal to the master ends its workers too, also old ones.
        let _ = Command::new("kill").arg("-TERM").arg(self.master.id().to_string()).status();
        let _ = self.master.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default());
        }
    }
}

/// A client after its upgrade.
pub struct Socket<S> {
    stream: BufReader<S>,
    /// The relay that has it.
    pub relay: String,
    /// The client's address, as HAProxy has forwarded it to the relay.
    pub forwarded: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Upgrades a stream; the request has `headers` too.
    pub async fn open(stream: S, headers: &str) -> io::Result<Self> {
        let mut stream = BufReader::new(stream);
        let request = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }

        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(io::Error::other(head));
        }
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let (relay, forwarded) = line.trim_end().split_once(':').unwrap();
        Ok(Self { stream, relay: relay.to_owned(), forwarded: forwarded.to_owned() })
    }

    /// True when a word is echoed.
    pub async fn lives(&mut self) -> bool {
        let talk = async {
            self.stream.write_all(b"word\n").await?;
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            Ok::<_, io::Error>(line == "word\n")
        };
        timeout(super::STEP_TIMEOUT, talk).await.expect("neither an answer nor an end").unwrap_or(false)
    }
}
