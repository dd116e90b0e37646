//! Measures a cluster that it starts: instances, Postgres with two replicas, and Redis. How soon an event published on
//! one instance is delivered on another, and how the cost of an event grows with the number of instances.

use crate::load::{Options, Pace, Surroundings, Watcher, Workload, run};
use crate::report::Run;
use crate::stats::{Spread, Summary};
use crate::system::Machine;
use anyhow::Context;
use deploy::Home;
use deploy::postgres::PostgresCluster;
use deploy::redis::RedisServer;
use deploy::relay::Relay;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name and version of the JSON's schema.
const SCHEMA: &str = "skein-cluster/1";
const INSTANCES: usize = 3;
/// Publishers of the fanout workload, which come first among its connections.
const PUBLISHERS: usize = 4;
/// The number of subscribers of [`Part::Across`].
const LISTENERS: usize = 12;
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// From publishing on one instance to delivery on another, at each rate
    Across,
    /// CPU time of the instances for each delivery, with 1, 2 and 3 of them under the same load
    Cost,
}

/// The measurement of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterBench {
    /// The relay's binary.
    pub program: PathBuf,
    /// What to measure.
    pub parts: Vec<Part>,
    /// Events a second of [`Part::Across`].
    pub rates: Vec<f64>,
    /// How long each load lasts.
    pub lasts: Duration,
    /// Rounds of [`Part::Cost`], whose median counts.
    pub rounds: usize,
    /// Events a second of [`Part::Cost`].
    pub rate: f64,
    /// Numbers of subscribers of [`Part::Cost`], each of which subscribes to all events: with more of them, an event's
    /// fixed cost on an instance is divided among more deliveries.
    pub subscribers: Vec<usize>,
}

/// The findings.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterReport {
    /// The name and version of the JSON's schema.
    pub schema: &'static str,
    /// The machine of all processes.
    pub machine: Machine,
    /// One for each rate.
    pub across: Vec<Across>,
    /// One for each number of subscribers and of instances.
    pub cost: Vec<Cost>,
}

/// Events that went from one of three instances to another.
#[derive(Debug, Clone, Serialize)]
pub struct Across {
    /// Events a second that were asked for.
    pub rate: f64,
    /// Events that got an OK.
    pub accepted: u64,
    /// Deliveries that did not come, came twice, or out of order.
    pub faults: u64,
    /// From the time at which an event was due to its reading on another instance, in milliseconds.
    pub latency_ms: Option<Summary>,
    /// From the same time to the event's OK: the database's part of the latency.
    pub ok_ms: Option<Summary>,
    /// Bytes that Redis received for each event.
    pub redis_bytes_in: f64,
    /// Bytes that Redis sent for each event, to all instances together.
    pub redis_bytes_out: f64,
    /// Entries that the log grew by in a second.
    pub log_rows_per_second: f64,
}

/// The cost of deliveries.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// How many clients subscribed, on all instances together.
    pub subscribers: usize,
    /// How many instances shared the load.
    pub instances: usize,
    /// Deliveries of the last round.
    pub delivered: u64,
    /// CPU time of all instances for each delivery, in microseconds: the median of the rounds, the least, the greatest.
    pub cpu_us_per_delivery: Spread,
    /// By how much that is more than with one instance, in percent.
    pub more_percent: f64,
}

struct ClusterStage {
    postgres: PostgresCluster,
    redis: RedisServer,
    relays: Vec<Relay>,
}

impl ClusterStage {
    async fn start(program: &Path) -> anyhow::Result<Self> {
        let home = Home::temporary()?;
        let postgres = PostgresCluster::setup_for_machine(3)?.replicas(2).home(home.clone()).start().await?;
        let mut redis = RedisServer::new("redis", home.clone())?;
        redis.start().await?;
        let urls = postgres.database_urls("postgres").join(",");
        let relay = |number| {
            let relay = Relay::new(&format!("relay-{number}"), program, home.clone())?;
            Ok(relay.set("RELAY_DATABASE_URLS", urls.clone()).set("RELAY_REDIS_URL", redis.url()))
        };
        let relays = (1..=INSTANCES).map(relay).collect::<Result<_, deploy::Error>>()?;
        Ok(Self { postgres, redis, relays })
    }

    /// Makes the first `instances` relays run, and no other.
    async fn run(&mut self, instances: usize) -> anyhow::Result<()> {
        for (at, relay) in self.relays.iter_mut().enumerate() {
            if at < instances {
                relay.start().await?;
            } else {
                relay.stop().await?;
            }
        }
        Ok(())
    }

    fn alive(&self) -> impl Iterator<Item = &Relay> {
        self.relays.iter().filter(|relay| relay.is_alive())
    }

    async fn load(
        &self,
        rate: f64,
        subscribers: usize,
        lasts: Duration,
        watcher: &mut dyn Watcher,
    ) -> anyhow::Result<Run> {
        let options = Options {
            urls: self.alive().map(Relay::url).collect(),
            workload: Workload::Fanout,
            connections: PUBLISHERS + subscribers,
            duration: lasts,
            pace: Pace::Rate(rate),
            events: None,
            seed: 1,
            authors: PUBLISHERS,
            threads: 1,
            sources: Vec::new(),
            patience: DELIVERY_TIMEOUT,
            late_after: Duration::from_secs(1),
            replay: None,
            filled: 1,
            filled_authors: 1,
            filled_until: 0,
            warm: false,
            check_stored: false,
        };

        let pids = self.alive().filter_map(|relay| u32::try_from(relay.process()?.pid()).ok()).collect();
        let name = format!("{} instances, {rate}/s", self.alive().count());
        let around = Surroundings { name, pids, ..Surroundings::default() };
        let (run, stopped) = run(options, &around, watcher).await?;
        anyhow::ensure!(!stopped, "interrupted");
        Ok(run)
    }

    /// Bytes that Redis has received and sent.
    async fn redis_bytes(&self) -> anyhow::Result<[f64; 2]> {
        let info: String = self.redis.ask(redis::cmd("INFO").arg("stats")).await?;
        let figure = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok());
            value.with_context(|| format!("Redis tells no {name}"))
        };
        Ok([figure("total_net_input_bytes")?, figure("total_net_output_bytes")?])
    }

    async fn position(&self) -> anyhow::Result<i64> {
        Ok(self.postgres.primary()?.ask("SELECT position FROM head WHERE one").await?)
    }

    async fn across(&self, rate: f64, lasts: Duration, watcher: &mut dyn Watcher) -> anyhow::Result<Across> {
        let (bytes, position) = (self.redis_bytes().await?, self.position().await?);
        let run = self.load(rate, LISTENERS, lasts, watcher).await?;
        let [bytes_in, bytes_out] = self.redis_bytes().await?;
        let rows = self.position().await? - position;
        let events = run.counts.accepted.max(1) as f64;
        Ok(Across {
            rate,
            accepted: run.counts.accepted,
            faults: run.ledger.lost + run.ledger.doubled + run.ledger.out_of_order,
            latency_ms: run.latency_ms.get("across").copied(),
            ok_ms: run.latency_ms.get("ok").copied(),
            redis_bytes_in: (bytes_in - bytes[0]) / events,
            redis_bytes_out: (bytes_out - bytes[1]) / events,
            log_rows_per_second: rows as f64 / run.ran_seconds,
        })
    }
}

impl ClusterBench {
    /// Starts everything, measures, and stops it.
    ///
    /// # Errors
    /// A server or a relay that does not start, or a load that cannot run.
    pub async fn run(&self, watcher: &mut dyn Watcher) -> anyhow::Result<ClusterReport> {
        let mut stage = ClusterStage::start(&self.program).await?;
        let mut report = ClusterReport { schema: SCHEMA, machine: Machine::look(), across: vec![], cost: vec![] };
        if self.parts.contains(&Part::Across) {
            stage.run(INSTANCES).await?;
            for rate in &self.rates {
                report.across.push(stage.across(*rate, self.lasts, watcher).await?);
            }
        }
        if self.parts.contains(&Part::Cost) {
            for subscribers in &self.subscribers {
                report.cost.extend(self.cost(&mut stage, *subscribers, watcher).await?);
            }
        }
        stage.run(0).await?;
        Ok(report)
    }

    /// The numbers of instances take turns in each round, so that other work on the machine affects all of them alike.
    async fn cost(
        &self,
        stage: &mut ClusterStage,
        subscribers: usize,
        watcher: &mut dyn Watcher,
    ) -> anyhow::Result<Vec<Cost>> {
        let mut rounds = vec![(Vec::new(), 0); INSTANCES];
        for _ in 0..self.rounds {
            for (at, (each, delivered)) in rounds.iter_mut().enumerate() {
                stage.run(at + 1).await?;
                let run = stage.load(self.rate, subscribers, self.lasts, watcher).await?;
                let used = run.relay.context("a relay ended during the load")?;
                each.push(used.cpu_seconds * 1e6 / run.counts.delivered.max(1) as f64);
                *delivered = run.counts.delivered;
            }
        }

        let mut cost: Vec<Cost> = Vec::new();
        for (at, (each, delivered)) in rounds.into_iter().enumerate() {
            let spread = Spread::of(each).context("no round")?;
            let alone = cost.first().map_or(spread.median, |first| first.cpu_us_per_delivery.median);
            let more_percent = 100.0 * (spread.median / alone - 1.0);
            cost.push(Cost { subscribers, instances: at + 1, delivered, cpu_us_per_delivery: spread, more_percent });
        }
        Ok(cost)
    }
}

impl ClusterReport {
    /// The whole report in two tables.
    pub fn print(&self) -> String {
        let head = [
            "events/s",
            "accepted",
            "faults",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "OK p99",
            "Redis B in",
            "B out",
            "log rows/s",
        ];

        let mut across = crate::report::table(&head);
        for row in &self.across {
            let latency = |of: fn(&Summary) -> f64| row.latency_ms.as_ref().map_or(0.0, of);
            across.add_row([
                format!("{:.0}", row.rate),
                row.accepted.to_string(),
                row.faults.to_string(),
                format!("{:.1}", latency(|summary| summary.p50)),
                format!("{:.1}", latency(|summary| summary.p95)),
                format!("{:.1}", latency(|summary| summary.p99)),
                format!("{:.1}", row.ok_ms.map_or(0.0, |ok| ok.p99)),
                format!("{:.0}", row.redis_bytes_in),
                format!("{:.0}", row.redis_bytes_out),
                format!("{:.0}", row.log_rows_per_second),
            ]);
        }

        let mut cost = crate::report::table(&[
            "subscribers",
            "instances",
            "delivered",
            "CPU µs/delivery",
            "least",
            "greatest",
            "more %",
        ]);

        for row in &self.cost {
            let spread = &row.cpu_us_per_delivery;
            cost.add_row([
                row.subscribers.to_string(),
                row.instances.to_string(),
                row.delivered.to_string(),
                format!("{:.1}", spread.median),
                format!("{:.1}", spread.min),
                format!("{:.1}", spread.max),
                format!("{:+.1}", row.more_percent),
            ]);
        }

        let mut text = String::new();
        if !self.across.is_empty() {
            text += &format!("published on one of {INSTANCES} instances, delivered on another:\n{across}\n");
        }
        if !self.cost.is_empty() {
            text += &format!("the same load on one instance or several:\n{cost}\n");
        }
        text
    }
}
