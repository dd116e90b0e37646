use super::{RedisServer, program};
use crate::{Error, Home, STEP_TIMEOUT, free_port, until};
use std::process::Stdio;
use std::sync::Arc;

/// A Redis Cluster: three masters, each with a replica.
#[derive(Debug)]
pub struct RedisCluster {
    /// `redis-1` to `redis-6`.
    pub servers: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a Cluster and waits until every server reports that it is complete.
    ///
    /// A master that is silent for a second is replaced by its replica.
    ///
    /// # Errors
    /// [`Error::Missing`] without Redis; otherwise the error of a step.
    pub async fn start(home: Arc<Home>) -> Result<Self, Error> {
        let mut cluster = Self { servers: Vec::new() };
        for number in 1..=6 {
            let bus = free_port()?.to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"];
            // Replicate at once: a replica cannot replace its master before it has the data, and the default delay is
            // five seconds.
            let at_once = ["--repl-diskless-sync-delay", "0"];
            let server = RedisServer::new(&format!("redis-{number}"), home.clone())?;
            let mut server = server.options(&options).options(&at_once);
            server.start().await?;
            cluster.servers.push(server);
        }

        let addresses = cluster.servers.iter().map(RedisServer::address);
        let mut command = tokio::process::Command::new(program("redis-cli")?);
        command.args(["--cluster", "create"]).args(addresses).args(["--cluster-replicas", "1", "--cluster-yes"]);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
        let output = output.map_err(Error::io("running redis-cli"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            return Err(Error::Failed {
                what: "redis-cli".to_owned(),
                status: output.status.to_string(),
                output: text,
            });
        }

        cluster.wait_whole().await?;
        Ok(cluster)
    }

    /// Waits until three masters run, and every running server sees all slots served and knows every other server.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    pub async fn wait_whole(&self) -> Result<(), Error> {
        // The roles first: until the servers notice that a master is dead, all slots seem to be served. And a replica
        // that was never connected cannot be elected.
        until("three masters and connected replicas", STEP_TIMEOUT, async || match self.roles().await {
            Ok(roles)
                if roles.iter().filter(|(_, role)| *role == "master").count() == 3
                    && roles.iter().all(|(_, role)| *role == "master" || *role == "connected") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        })
        .await?;

        for server in self.servers.iter().filter(|server| server.is_alive()) {
            until(&format!("{} to see a whole cluster", server.name), STEP_TIMEOUT, async || {
                let command = |name| redis::cmd("CLUSTER").arg(name).to_owned();
                let state = server.ask::<String>(&command("INFO")).await.map_err(|error| error.to_string())?;
                let nodes = server.ask::<String>(&command("NODES")).await.map_err(|error| error.to_string())?;
                let whole = state.contains("cluster_state:ok") && !nodes.contains("handshake");
                if whole { Ok(()) } else { Err(nodes) }
            })
            .await?;
        }
        Ok(())
    }

    /// `redis+cluster://` with all addresses.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.servers.iter().map(RedisServer::address).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// The indexes of the running masters in [`servers`](Self::servers).
    ///
    /// # Errors
    /// [`Error::Redis`] if a running server does not answer.
    pub async fn masters(&self) -> Result<Vec<usize>, Error> {
        let roles = self.roles().await?.into_iter();
        Ok(roles.filter(|(_, role)| *role == "master").map(|(index, _)| index).collect())
    }

    /// Waits until a client has subscribed to a channel at a master that a replica could replace; returns the index of
    /// that master in [`servers`](Self::servers).
    ///
    /// # Errors
    /// [`Error::Timeout`].
    pub async fn carrier(&self) -> Result<usize, Error> {
        until("a master with listeners and a replica", STEP_TIMEOUT, async || {
            for (at, server) in self.servers.iter().enumerate().filter(|(_, server)| server.is_alive()) {
                let replication = redis::cmd("INFO").arg("replication").to_owned();
                let replication = server.ask::<String>(&replication).await.map_err(|error| error.to_string())?;
                let channels = redis::cmd("PUBSUB").arg("SHARDCHANNELS").to_owned();
                let channels = server.ask::<Vec<String>>(&channels).await.map_err(|error| error.to_string())?;
                if replication.contains("role:master") && replication.contains("state=online") && !channels.is_empty() {
                    return Ok(at);
                }
            }
            Err("none yet".to_owned())
        })
        .await
    }

    /// For each running server its index, and `master` or the state of the replica's link, such as `connected`.
    async fn roles(&self) -> Result<Vec<(usize, String)>, Error> {
        let mut roles = Vec::new();
        for (index, server) in self.servers.iter().enumerate().filter(|(_, server)| server.is_alive()) {
            let role: redis::Value = server.ask(&redis::cmd("ROLE")).await?;
            let redis::Value::Array(fields) = role else { continue };
            let text = |at: usize| fields.get(at).and_then(|field| redis::from_redis_value_ref::<String>(field).ok());
            let role = if text(0).as_deref() == Some("slave") { text(3) } else { text(0) };
            roles.push((index, role.unwrap_or_default()));
        }
        Ok(roles)
    }
}
