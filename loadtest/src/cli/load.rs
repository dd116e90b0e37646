//! The default command: loads a relay and reports how it did.

use anyhow::{Context, ensure};
use clap::Args;
use loadtest::load::{Cache, Options, Pace, Surroundings, Workload, run};
use loadtest::report::{Report, SCHEMA, Threshold, Verdict, judge, print, write_all};
use loadtest::system::Machine;
use std::net::IpAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::show::Show;

#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// The relay's URL, ws://HOST:PORT; several, by commas or repeated, share the connections
    #[arg(long = "url", value_name = "URL", value_delimiter = ',', required = true)]
    urls: Vec<String>,
    /// What the connections do
    #[arg(long, value_enum, default_value = "standard")]
    workload: Workload,
    /// How many connections
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = super::at_least_one)]
    connections: usize,
    /// One run for each of these numbers of connections, such as 100,300,1000,3000
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "connections", value_parser = super::at_least_one)]
    steps: Vec<usize>,
    /// How long, such as 60s, 5m, 1h [default: 60s; soak: 1h]
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    duration: Option<Duration>,
    /// Events a second (of the query workload: questions) [default: 100; publish: as fast as OKs come]
    #[arg(long, value_name = "N", value_parser = super::positive)]
    rate: Option<f64>,
    /// Publish so many events at most [default: as many as the rate wants; without one 150000, all signed before]
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Wait for OKs: no connection has more events than this without one. It measures the greatest rate, no latency
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = super::at_least_one)]
    in_flight: Option<usize>,
    /// Where to write report.json, report.html, the pictures and loadtest.log
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Publish these events (JSON lines) instead of made ones
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Exit with 4 when this holds, such as 'p95(delivery)>100ms' or 'lost>0'; may be repeated
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Threshold>,
    /// What has not come after this long is lost
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = super::duration)]
    patience: Duration,
    /// A delivery later than this counts as late
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = super::duration)]
    late_after: Duration,
    /// Do not look at the end whether every accepted event is stored
    #[arg(long)]
    no_stored_check: bool,
    /// Cold or warm caches first; both makes two runs and compares them
    #[arg(long, value_enum)]
    cache: Option<Cache>,
    /// The relay's admin address, http://HOST:PORT
    #[arg(long, value_name = "URL")]
    admin_url: Option<String>,
    /// The relay's admin.token, which allows to purge its caches
    #[arg(long, value_name = "TOKEN", env = "RELAY_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// The relay's metrics, http://HOST:PORT/metrics, to be put into the report
    #[arg(long, value_name = "URL")]
    metrics_url: Option<String>,
    /// The relay's processes on this machine, for their CPU and memory
    #[arg(long = "pid", value_name = "LIST", value_delimiter = ',')]
    pids: Vec<u32>,
    /// The tester's threads [default: half the cores, at least 1]
    #[arg(long, value_name = "N", value_parser = super::at_least_one)]
    threads: Option<usize>,
    /// Source addresses to connect from in turn [default for more than 10000 connections to 127.0.0.0/8: enough of it]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    sources: Vec<IpAddr>,
    /// The seed of all that is random
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many people write; the first writes most (Zipf 0.9)
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = super::at_least_one)]
    authors: usize,
    /// The events that `loadtest fill` wrote with this seed, for the query workload's questions
    #[arg(long, value_name = "N", default_value_t = super::FILLED, value_parser = super::at_least_one)]
    filled: usize,
}

/// How many connections publish in the publish workload, unless the command line says.
const PUBLISHERS: usize = 4;
const PUBLISH_IN_FLIGHT: usize = 100;

impl LoadArguments {
    fn options(&self, connections: usize, cache: Option<Cache>) -> Options {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let soak = self.workload == Workload::Soak;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let pace = match (self.rate, self.in_flight, self.workload) {
            (Some(rate), ..) => Pace::Rate(rate),
            (None, Some(most), _) => Pace::InFlight(most),
            (None, None, Workload::Publish) => Pace::InFlight(PUBLISH_IN_FLIGHT),
            (None, None, _) => Pace::Rate(100.0),
        };

        Options {
            urls: self.urls.clone(),
            workload: self.workload,
            connections,
            duration: self.duration.unwrap_or(minutes(if soak { 60 } else { 1 })),
            pace,
            events: self.events,
            seed: self.seed,
            authors: self.authors,
            threads: self.threads.unwrap_or(cores / 2).clamp(1, connections),
            sources: self.sources.clone(),
            patience: self.patience,
            late_after: self.late_after,
            replay: self.replay.clone(),
            filled: self.filled,
            filled_authors: super::FILL_AUTHORS,
            filled_until: super::FILL_UNTIL,
            warm: cache == Some(Cache::Warm),
            check_stored: !self.no_stored_check,
        }
    }

    /// The runs to make: their names, their connections, and how caches are treated before.
    fn plan(&self) -> Vec<(String, usize, Option<Cache>)> {
        let closed = self.rate.is_none() && self.workload == Workload::Publish;
        let alone = if closed && self.connections == 1_000 { PUBLISHERS } else { self.connections };
        match self.cache {
            Some(Cache::Both) => {
                vec![("cold".to_owned(), alone, Some(Cache::Cold)), ("warm".to_owned(), alone, Some(Cache::Warm))]
            }
            cache if self.steps.is_empty() => vec![(self.workload_name(), alone, cache)],
            cache => self.steps.iter().map(|step| (format!("{step} connections"), *step, cache)).collect(),
        }
    }

    fn workload_name(&self) -> String {
        clap::ValueEnum::to_possible_value(&self.workload).map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let caches = matches!(self.cache, Some(Cache::Cold | Cache::Both));
        let can_purge = self.admin_url.is_some() && self.admin_token.is_some();
        ensure!(
            !caches || can_purge,
            "--cache {:?} needs --admin-url and --admin-token to purge the caches",
            self.cache
        );

        let warms = matches!(self.cache, Some(Cache::Warm | Cache::Both));
        ensure!(!warms || self.workload == Workload::Query, "caches are warmed with the questions of --workload query");
        if let Some(directory) = &self.report {
            std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        let mut show = Show::new(self.report.as_deref().map(|directory| directory.join("loadtest.log")))?;
        let machine = Machine::look();
        let started_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut runs = Vec::new();
        for (name, connections, cache) in self.plan() {
            show.begin(&name);
            let around = Surroundings {
                name,
                pids: self.pids.clone(),
                metrics_url: self.metrics_url.clone(),
                admin_url: self.admin_url.clone(),
                admin_token: self.admin_token.clone(),
                cache,
            };
            let (run, stopped) = runtime.block_on(run(self.options(connections, cache), &around, &mut show))?;
            show.end(&run);
            runs.push(run);
            if stopped {
                break;
            }
        }

        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut report =
            Report { schema: SCHEMA.to_owned(), version, started_at, machine, runs, verdict: Verdict::default() };
        report.verdict = judge(&report.runs, &self.fail_if);
        print!("{}", print(&report));
        show.verdict(&report.verdict);
        if let Some(directory) = &self.report {
            write_all(&report, directory).with_context(|| directory.display().to_string())?;
            println!("report: {}", directory.join("report.html").display());
        }
        Ok(ExitCode::from(report.verdict.exit_status))
    }
}
