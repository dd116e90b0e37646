//! `loadtest`: fills, measures and loads a Nostr relay over the wire.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use loadtest::bench::{Bench, Measurement, Relay, Where, progress};
use loadtest::events::{Authors, Kinds, Plan, fill};
use loadtest::hot::{self, Hot, PhaseBound};
use loadtest::report::{Report, SCHEMA, compare, draw_both};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

mod cli;

use cli::{at_least_one, cluster::ClusterArguments, load::LoadArguments, positive};

/// Exit status: the run found faults, such as lost, doubled or reordered deliveries.
const EXIT_FAULTS: u8 = 1;
/// Exit status: the run could not take place.
const EXIT_FAILED: u8 = 3;

#[derive(Parser)]
#[command(version, about = "Fills, measures and loads a Nostr relay over the wire")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Without a subcommand it loads the relay at --url and reports what it held.\n\n\
                        Exit codes: 0 clean, 1 correctness violated, 2 the command line is wrong, \
                        3 it could not run, 4 a threshold of --fail-if was missed")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    load: Option<LoadArguments>,
}

#[derive(Subcommand)]
enum Command {
    /// Measure a relay: queries by shape, live deliveries, publishing, memory of idle connections
    ///
    /// With --spawn it starts a relay of its own on free ports, with an SQLite file in a temporary directory, loads
    /// it by `relay import`, measures it and stops it; each measurement gets a freshly started relay. With --url it
    /// measures a relay that runs already and holds the events of `loadtest fill` with the same --seed and --events.
    Bench(Box<BenchArguments>),
    /// Measure what the relay's cache is worth, on a cluster of its own: off, cold, warm, and one more instance
    ///
    /// Starts PostgreSQL, Redis and relays on free ports, loads events, asks filters by Zipf's law while events are
    /// published, and stops everything. Each phase is bounded in time. Writes cache.json and cache_comparison.png.
    Cache(Box<CacheArguments>),
    /// Measure several instances: how soon events come from one to another, and what they cost the more there are
    ///
    /// It starts Postgres with two replicas, Redis and three relays, and stops them.
    Cluster(Box<ClusterArguments>),
    /// Compare two reports: ratios and their noise, and both in one picture
    Compare(CompareArguments),
    /// Write events as JSON lines, the same for the same seed, for `relay import --no-verify`
    Fill(FillArguments),
}

#[derive(Args)]
struct Data {
    /// The stored events to make
    #[arg(long, value_name = "N", default_value_t = cli::FILLED, value_parser = at_least_one)]
    events: usize,
    /// The seed of all that is random
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many people write them; the first writes most (Zipf 0.9)
    #[arg(long, value_name = "N", default_value_t = cli::FILL_AUTHORS, value_parser = at_least_one)]
    authors: usize,
    /// The newest event's time in unix seconds [default: 2026-11-01]
    #[arg(long, value_name = "SECONDS", default_value_t = cli::FILL_UNTIL, hide_default_value = true)]
    until: u64,
}

#[derive(Args)]
struct CompareArguments {
    /// A report.json
    one: PathBuf,
    /// Another
    other: PathBuf,
    /// Where to draw both
    #[arg(long, value_name = "FILE", default_value = "comparison.png")]
    out: PathBuf,
}

#[derive(Args)]
struct FillArguments {
    #[command(flatten)]
    data: Data,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Sign them (25 µs of a core each); without it signatures have the right shape and do not hold
    #[arg(long)]
    signed: bool,
}

#[derive(Args)]
struct CacheArguments {
    #[command(flatten)]
    data: Data,
    /// The relay's program
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/relay")]
    spawn: PathBuf,
    /// Different filters
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = at_least_one)]
    filters: usize,
    /// How skewed they are asked: Zipf's exponent
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = positive)]
    skew: f64,
    /// Instances
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    instances: usize,
    /// Replicas of the database
    #[arg(long, value_name = "N", default_value_t = 0)]
    replicas: usize,
    /// Connections to each instance, each with one question under way
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = at_least_one)]
    connections: usize,
    /// How long each phase lasts
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = cli::duration)]
    lasts: Duration,
    /// How long the caches are warmed, by asking on as in the cold phase
    #[arg(long, value_name = "TIME", default_value = "150s", value_parser = cli::duration)]
    warming: Duration,
    /// A phase ends after so many REQs, and the warming after twice as many, where that is sooner
    #[arg(long, value_name = "N", default_value_t = 400_000, value_parser = at_least_one)]
    at_most: usize,
    /// Events published a second meanwhile
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = positive)]
    rate: f64,
    /// Questions to the instance that starts cold
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    fourth: usize,
    /// A setting of the relays, such as RELAY_CACHE_L1_BYTES=16777216; may be repeated
    #[arg(long = "set", value_name = "VARIABLE=VALUE", value_parser = cli::setting)]
    settings: Vec<(String, String)>,
    /// Where cache.json and cache_comparison.png go
    #[arg(long, value_name = "DIR", default_value = "target/bench-cache")]
    report: PathBuf,
}

impl CacheArguments {
    fn run(self) -> anyhow::Result<ExitCode> {
        let hot = Hot {
            program: self.spawn,
            events: self.data.events,
            authors: self.data.authors,
            until: self.data.until,
            seed: self.data.seed,
            filters: self.filters,
            skew: self.skew,
            instances: self.instances,
            replicas: self.replicas,
            connections: self.connections,
            phase: PhaseBound { lasts: self.lasts, questions: self.at_most },
            warming: PhaseBound { lasts: self.warming, questions: 2 * self.at_most },
            rate: self.rate,
            fourth: self.fourth,
            settings: self.settings,
        };

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = tokio::task::LocalSet::new().block_on(&runtime, hot.run())?;
        hot::write(&report, &self.report)?;
        println!("report: {}", self.report.join("cache.json").display());
        let faulty = report.phases.iter().any(|phase| !phase.faults.is_empty());
        Ok(ExitCode::from(if faulty { EXIT_FAULTS } else { 0 }))
    }
}

#[derive(Args)]
struct BenchArguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    data: Data,
    /// What to measure, in this order
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", default_value = "query,live,publish,idle")]
    only: Vec<Measurement>,
    /// Rounds of each figure; the median is reported, with the least and the greatest
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    rounds: usize,
    /// How long a round of queries or publishing lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = positive)]
    seconds: f64,
    /// Events signed beforehand for each round of publishing, which ends when they run out
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = at_least_one)]
    publish_events: usize,
    /// Subscribers of the live measurements
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_one)]
    subscribers: usize,
    /// Connections of the idle measurement
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = at_least_one)]
    idle: usize,
    /// Source addresses to connect from in turn, such as 127.0.0.2,127.0.0.3
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    sources: Vec<IpAddr>,
    /// Keep the stored events in this file, and take them from it next time
    #[arg(long, value_name = "FILE", requires = "spawn")]
    data_file: Option<PathBuf>,
    /// Write all figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct Place {
    /// The relay to measure, ws://HOST:PORT
    #[arg(long, conflicts_with = "spawn")]
    url: Option<String>,
    /// Its process id, for its CPU time and memory
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// The relay's binary, to start one
    #[arg(long, value_name = "PROGRAM")]
    spawn: Option<PathBuf>,
    /// Its configuration file, where the defaults won't do
    #[arg(long, value_name = "FILE", requires = "spawn")]
    relay_config: Option<PathBuf>,
    /// Its database [default: an SQLite file in the temporary directory]
    #[arg(long, value_name = "URL", requires = "spawn")]
    database: Option<String>,
    /// Where to make the temporary directory: its disk is what is measured
    #[arg(long, value_name = "DIR", requires = "spawn")]
    directory: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (arguments.command, arguments.load) {
        (Some(Command::Bench(arguments)), _) => bench(*arguments),
        (Some(Command::Cache(arguments)), _) => arguments.run(),
        (Some(Command::Cluster(arguments)), _) => arguments.run(),
        (Some(Command::Compare(arguments)), _) => compare_files(&arguments).map(|()| ExitCode::SUCCESS),
        (Some(Command::Fill(arguments)), _) => fill_file(&arguments).map(|()| ExitCode::SUCCESS),
        (None, Some(arguments)) => arguments.run(),
        (None, None) => Err(anyhow::anyhow!("give --url")),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("loadtest: {error:#}");
        ExitCode::from(EXIT_FAILED)
    })
}

impl Data {
    fn plan(&self) -> Plan {
        let span_seconds = loadtest::events::FILL_SPAN_SECONDS;
        Plan { seed: self.seed, events: self.events, until: self.until, span_seconds, kinds: Kinds::Mixed }
    }
}

fn compare_files(arguments: &CompareArguments) -> anyhow::Result<()> {
    let read = |path: &PathBuf| -> anyhow::Result<Report> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        let report: Report = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        anyhow::ensure!(
            report.schema == SCHEMA,
            "{} has the schema {:?}, not {SCHEMA:?}",
            path.display(),
            report.schema
        );
        Ok(report)
    };

    let (one, other) = (read(&arguments.one)?, read(&arguments.other)?);
    print!("{}", compare(("one", &one), ("other", &other)));
    draw_both(("one", &one), ("other", &other), &arguments.out)?;
    println!("both: {}", arguments.out.display());
    Ok(())
}

fn fill_file(arguments: &FillArguments) -> anyhow::Result<()> {
    let FillArguments { data, out, signed } = arguments;
    let authors = Authors::derive(data.seed, data.authors);
    let mut file = BufWriter::new(File::create(out).with_context(|| out.display().to_string())?);
    let bar = progress(data.events, "events");
    fill(data.plan(), &authors, *signed, &mut file, || bar.inc(1))?;
    file.flush()?;
    bar.finish();
    Ok(())
}

fn bench(arguments: BenchArguments) -> anyhow::Result<ExitCode> {
    let json = arguments.json.clone();
    // Declared before the relay, so that it is dropped, and removed, after the relay was stopped.
    let temporary = match &arguments.place.directory {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    }?;

    let bench = arguments.into_bench(temporary.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, async {
        tokio::select! {
            report = bench.run() => report,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    })?;

    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAULTS) })
}

impl BenchArguments {
    fn into_bench(self, temporary: &std::path::Path) -> anyhow::Result<Bench> {
        let Place { url, pid, spawn, relay_config, database, .. } = self.place;
        let place = match (url, spawn) {
            (Some(url), _) => Where::Running { url, pid },
            (None, Some(program)) => Where::Spawned(Relay {
                program: std::path::absolute(program)?,
                config: relay_config.map(std::path::absolute).transpose()?,
                database,
                directory: temporary.to_owned(),
            }),
            (None, None) => anyhow::bail!("give --url or --spawn"),
        };

        Ok(Bench {
            place,
            measurements: self.only,
            data: self.data.plan(),
            authors: self.data.authors,
            data_file: self.data_file,
            rounds: self.rounds,
            round_lasts: Duration::from_secs_f64(self.seconds),
            publish_events: self.publish_events,
            subscribers: self.subscribers,
            idle_connections: self.idle,
            sources: self.sources,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_bench_needs_one_place() {
        let parse = |arguments: &[&str]| Arguments::try_parse_from([&["loadtest", "bench"], arguments].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--url", "ws://127.0.0.1:1", "--spawn", "relay"]).is_err());
        assert!(parse(&["--pid", "1"]).is_err());
        assert!(parse(&["--rounds", "0", "--spawn", "relay"]).is_err());
        assert!(parse(&["--spawn", "relay", "--only", "publish,idle"]).is_ok());
    }
}
