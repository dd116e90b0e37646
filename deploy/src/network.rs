//! A network that loses packets: a namespace at the other end of a veth pair, and proxies in it.

use crate::process::{Launch, Life, Process};
use crate::proxy::Proxy;
use crate::{Error, Home, STEP_TIMEOUT, Signal, until};
use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::Command;

/// A network of its own, reached over one line, which can be told to drop packets at random, both ways.
///
/// It goes with its one process when it is dropped, or when this process dies.
#[derive(Debug)]
pub struct LossyNetwork {
    /// It only keeps the namespace.
    process: Process,
    inside: Ipv4Addr,
}

impl LossyNetwork {
    /// Whether this process may make one: root may.
    pub fn is_allowed() -> bool {
        geteuid().is_root()
    }

    /// Makes one; nothing is lost yet.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Failed`] without the programs or the rights.
    pub async fn start(home: Arc<Home>) -> Result<Self, Error> {
        // Of the addresses that are set aside for measuring networks (RFC 2544): four, of which two are used.
        let number: u32 = rand::random_range(0..1 << 15);
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number * 4;
        let (outside, inside) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let launch = Launch {
            name: format!("network-{number}"),
            program: PathBuf::from("unshare"),
            arguments: ["--net", "sleep", "infinity"].map(Into::into).to_vec(),
            environment: Vec::new(),
            hidden: &[],
            folder: home.path().to_owned(),
            home,
            user: None,
            life: Life::Guarded,
            last_signal: Signal::KILL,
        };
        let network = Self { process: launch.start()?, inside };
        let own = fs::read_link("/proc/self/ns/net").map_err(Error::io("looking at the own network"))?;
        until("a network of its own", STEP_TIMEOUT, async || match fs::read_link(network.path()) {
            Ok(other) if other != own => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        let (near, far) = (format!("sk{number}a"), format!("sk{number}b"));
        let pid = network.process.pid().to_string();
        run("ip", &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &pid]).await?;
        run("ip", &["address", "add", &format!("{outside}/30"), "dev", &near]).await?;
        run("ip", &["link", "set", &near, "up"]).await?;
        network.run(&["ip", "address", "add", &format!("{inside}/30"), "dev", &far]).await?;
        network.run(&["ip", "link", "set", &far, "up"]).await?;
        Ok(network)
    }

    /// A proxy that is reached over the line, and itself reaches `target` from this side.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't listen.
    pub fn proxy(&self, target: SocketAddr) -> Result<Proxy, Error> {
        let (path, address) = (self.path(), (self.inside, 0));
        // A thread of its own, for a thread that has gone over does not come back. What was bound there stays there.
        let listen = move || {
            let network = File::open(path)?;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind(address)
        };
        let listener = std::thread::spawn(listen).join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
        Proxy::on(listener.map_err(Error::io("listening in another network"))?, target)
    }

    /// Drops this share of the packets from now on, each way; 0 to 1.
    ///
    /// # Errors
    /// [`Error::Failed`] with what iptables said.
    pub async fn lose(&self, share: f64) -> Result<(), Error> {
        let share = share.to_string();
        for chain in ["INPUT", "OUTPUT"] {
            self.run(&["iptables", "--flush", chain]).await?;
            let random = ["-m", "statistic", "--mode", "random", "--probability", &share, "-j", "DROP"];
            self.run(&[&["iptables", "-A", chain, "-p", "tcp"][..], &random].concat()).await?;
        }
        Ok(())
    }

    /// How many packets were dropped since the last change.
    ///
    /// # Errors
    /// [`Error::Failed`] with what iptables said.
    pub async fn dropped(&self) -> Result<u64, Error> {
        let text = self.run(&["iptables", "-nvxL"]).await?;
        let rules = text.lines().filter(|line| line.contains("DROP"));
        Ok(rules.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum())
    }

    /// Where proxies listen.
    pub fn address(&self) -> IpAddr {
        self.inside.into()
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.process.pid()))
    }

    async fn run(&self, command: &[&str]) -> Result<String, Error> {
        let pid = self.process.pid().to_string();
        run("nsenter", &[&["--net", "--target", &pid][..], command].concat()).await
    }
}

async fn run(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(Error::io(format!("running {program}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Failed {
        what: format!("{program} {}", arguments.join(" ")),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
