//! A network that loses packets: a network namespace behind a veth pair, with proxies in it.

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

/// A separate network behind one line, on which packets can be dropped at random, in both directions.
///
/// It ends with its one process: when it is dropped, or when this process dies.
#[derive(Debug)]
pub struct LossyNetwork {
    /// Keeps the namespace alive, and does nothing else.
    process: Process,
    inside: Ipv4Addr,
}

impl LossyNetwork {
    /// Whether this process may make one; only root may.
    pub fn is_allowed() -> bool {
        geteuid().is_root()
    }

    /// Makes one, without loss.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Failed`] without the programs or the rights.
    pub async fn start(home: Arc<Home>) -> Result<Self, Error> {
        // A /30 of the addresses that are reserved for benchmarks of networks (RFC 2544): two of its addresses are
        // used.
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

    /// A proxy that listens behind the line, and connects to `target` on this side.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot listen.
    pub fn proxy(&self, target: SocketAddr) -> Result<Proxy, Error> {
        let (path, address) = (self.path(), (self.inside, 0));
        // On a thread of its own, since a thread that has entered the namespace cannot leave it. A socket that was
        // bound there stays there.
        let listen = move || {
            let network = File::open(path)?;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind(address)
        };
        let listener = std::thread::spawn(listen).join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
        Proxy::on(listener.map_err(Error::io("listening in another network"))?, target)
    }

    /// Drops this share of the packets from now on, in each direction; 0 to 1.
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

    /// The address on which proxies listen.
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
