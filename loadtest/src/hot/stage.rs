//! Starts PostgreSQL, Redis and the relays to measure.

use super::Hot;
use crate::bench::{Relay as Importer, Site};
use crate::client::{Scratch, Target};
use anyhow::Context;
use deploy::Home;
use deploy::postgres::PostgresCluster;
use deploy::redis::RedisServer;
use deploy::relay::Relay;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DATABASE: &str = "postgres";

pub(super) struct Stage {
    home: Arc<Home>,
    program: PathBuf,
    settings: Vec<(String, String)>,
    postgres: PostgresCluster,
    redis: RedisServer,
    pub(super) relays: Vec<Relay>,
}

impl Stage {
    /// Starts the database and Redis.
    pub(super) async fn start(hot: &Hot) -> anyhow::Result<Self> {
        let home = Home::temporary()?;
        let setup = PostgresCluster::setup_for_machine(1 + hot.replicas)?.replicas(hot.replicas).home(home.clone());
        let postgres = setup.start().await?;
        let mut redis = RedisServer::new("redis", home.clone())?;
        redis.start().await?;
        let program = std::path::absolute(&hot.program)?;
        Ok(Self { home, program, settings: hot.settings.clone(), postgres, redis, relays: Vec::new() })
    }

    pub(super) fn folder(&self) -> &Path {
        self.home.path()
    }

    /// Waits until the import's rows are on disk and on the replicas. Then runs VACUUM (ANALYZE), so that index-only
    /// scans work, as in a database that has run for a while.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        self.postgres.primary()?.execute("CHECKPOINT").await?;
        self.postgres.wait_applied().await?;
        Ok(())
    }

    /// Loads a file of events into the database.
    pub(super) fn import(&self, file: &Path) -> anyhow::Result<()> {
        let importer = Importer {
            program: self.program.clone(),
            config: None,
            database: self.postgres.database_urls(DATABASE).first().cloned(),
            directory: self.home.path().to_owned(),
        };
        importer.import(file).context("loading the events")
    }

    /// Starts `count` fresh relays, with an empty Redis.
    pub(super) async fn relays_with(&mut self, count: usize, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.stop_relays().await?;
        self.redis.kill().await?;
        self.redis.start().await?;
        for _ in 0..count {
            let mut relay = self.relay()?;
            for (variable, value) in settings {
                relay = relay.set(variable, *value);
            }
            relay.start().await?;
            self.relays.push(relay);
        }
        Ok(())
    }

    /// Starts one more relay.
    pub(super) async fn add(&mut self) -> anyhow::Result<()> {
        let mut relay = self.relay()?;
        relay.start().await?;
        self.relays.push(relay);
        Ok(())
    }

    fn relay(&self) -> anyhow::Result<Relay> {
        let name = format!("relay-{}", self.relays.len() + 1);
        let mut relay = Relay::new(&name, &self.program, self.home.clone())?
            .set("RELAY_DATABASE_URLS", self.postgres.database_urls(DATABASE).join(","))
            .set("RELAY_REDIS_URL", self.redis.url())
            .set("RELAY_TIMEOUTS_DRAIN_SECONDS", "0");
        for (variable, value) in &self.settings {
            relay = relay.set(variable, value.clone());
        }
        Ok(relay)
    }

    /// The address of a relay for clients.
    pub(super) fn site(&self, relay: usize) -> anyhow::Result<Site> {
        let relay = self.relays.get(relay).context("a relay that was not started")?;
        let pid = relay.process().and_then(|process| u32::try_from(process.pid()).ok());
        Ok(Site { target: Target::resolve(&relay.url())?, sources: Vec::new(), pid, scratch: Scratch::new() })
    }

    async fn stop_relays(&mut self) -> anyhow::Result<()> {
        for mut relay in self.relays.drain(..) {
            relay.stop().await?;
        }
        Ok(())
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop_relays().await?;
        self.redis.stop().await?;
        self.postgres.stop().await?;
        Ok(())
    }
}
