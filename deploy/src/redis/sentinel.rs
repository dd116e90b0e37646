use super::RedisServer;
use crate::{Error, Home, STEP_TIMEOUT, until};
use std::fs;
use std::sync::Arc;

/// The name by which Sentinels know the master.
const MASTER: &str = "skein";

/// A master and a replica, watched by three Sentinels.
#[derive(Debug)]
pub struct Sentinels {
    /// `redis-1`, the first master, and `redis-2`.
    pub servers: Vec<RedisServer>,
    /// `sentinel-1` to `sentinel-3`.
    pub sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// Starts them and waits until the Sentinels know the replica and each other.
    ///
    /// The Sentinels replace a master that is silent for a second.
    ///
    /// # Errors
    /// [`Error::Missing`] without Redis; otherwise the error of a step.
    pub async fn start(home: Arc<Home>) -> Result<Self, Error> {
        let mut master = RedisServer::new("redis-1", home.clone())?;
        master.start().await?;
        let port = master.port.to_string();
        let options = ["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
        let mut replica = RedisServer::new("redis-2", home.clone())?.options(&options);
        replica.start().await?;
        let mut started = Self { servers: vec![master, replica], sentinels: Vec::new() };
        for number in 1..=3 {
            let name = format!("sentinel-{number}");
            // Each Sentinel has its own file, since it writes its state into it.
            let path = home.folder(&name)?.join("sentinel.conf");
            let text = format!(
                "sentinel monitor {MASTER} 127.0.0.1 {port} 2\nsentinel down-after-milliseconds {MASTER} 1000\n\
                 sentinel failover-timeout {MASTER} 5000\n"
            );
            fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
            let mut sentinel = RedisServer::new(&name, home.clone())?.options(&["--sentinel"]);
            sentinel.configuration = Some(path);
            sentinel.start().await?;
            started.sentinels.push(sentinel);
        }

        started.wait_whole().await?;
        Ok(started)
    }

    async fn wait_whole(&self) -> Result<(), Error> {
        for sentinel in &self.sentinels {
            until(&format!("{} to know all others", sentinel.name), STEP_TIMEOUT, async || {
                let command = redis::cmd("INFO").arg("sentinel").to_owned();
                let info = sentinel.ask::<String>(&command).await.map_err(|error| error.to_string())?;
                if info.contains("slaves=1,sentinels=3") { Ok(()) } else { Err(info) }
            })
            .await?;
        }
        Ok(())
    }

    /// `redis+sentinel://` with the Sentinels' addresses and the master's name as its path.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(RedisServer::address).collect();
        format!("redis+sentinel://{}/{MASTER}", addresses.join(","))
    }

    /// The index in [`servers`](Self::servers) of the server that the Sentinels call the master.
    ///
    /// # Errors
    /// [`Error::State`] if they name another server.
    pub async fn master(&self) -> Result<usize, Error> {
        let [first, ..] = self.sentinels.as_slice() else { return Err(Error::State("no Sentinel".to_owned())) };
        let command = redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(MASTER).to_owned();
        let (_, port): (String, u16) = first.ask(&command).await?;
        let place = self.servers.iter().position(|server| server.port == port);
        place.ok_or_else(|| Error::State(format!("the Sentinels name port {port} as the master's")))
    }
}
