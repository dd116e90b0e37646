//! A relay in a separate process, so that its descriptors can run out and its memory can be measured.
//!
//! The process is the test binary again, told to run the ignored test `child`, which calls [`child`].

use super::{Relay, Setup, patiently};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

const DESCRIPTORS: &str = "KIT_CHILD_DESCRIPTORS";

/// The process, killed when dropped.
pub struct Child {
    process: tokio::process::Child,
    pub address: SocketAddr,
}

impl Child {
    /// Starts one that may open this many files.
    pub async fn start(descriptors: u64) -> Self {
        let mut process = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DESCRIPTORS, descriptors.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();

        let address = patiently("the child's address", async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the child ended");
                if let Some(address) = line.split("listening on ").nth(1) {
                    return address.parse().unwrap();
                }
            }
        })
        .await;

        // Keep reading: else the child blocks on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { process, address }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id().unwrap())).unwrap()
    }

    /// The resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processor time that it has used.
    pub fn processor_time(&self) -> Duration {
        let stat = self.proc("stat");
        // After the command, which may have spaces: the state, then numbers; the 12th and 13th are utime and stime.
        let mut fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11);
        let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
        Duration::from_millis(10 * (ticks() + ticks()))
    }
}

/// The body of the test `child`: nothing, unless [`Child::start`] started it; then it serves until it is killed.
pub async fn child(change: impl FnOnce(&mut Setup)) {
    let Ok(descriptors) = std::env::var(DESCRIPTORS) else { return };
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors.parse().unwrap()), maximum }).unwrap();
    let relay = Relay::with(change).await;
    println!("listening on {}", relay.address);
    let _ = tokio::io::stdin().read(&mut [0]).await;
}
