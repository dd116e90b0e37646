//! A whole run: makes the data, starts the relay, and takes the measurements one after the other.

use super::spawn::Running;
use super::{
    BenchReport, Live, LivePace, Publish, QuestionSchedule, Relay, Row, SILENCE, Shape, Site, idle, live, publish,
    query, questions,
};
use crate::client::{Scratch, Target};
use crate::events::{Authors, Generator, Keys, Kinds, Plan, Random, Signed, fill, sign_all};
use crate::system::{Limits, Machine, Process, fan_out, raise_open_files};
use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rustc_hash::FxHashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// Connections of the publish and query measurements.
const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 100;
/// Different questions of a shape.
const QUESTIONS: usize = 2_000;
/// The number of events that a flood has under way.
const UNDER_WAY: usize = 20;
/// The author whose notes the live measurements deliver.
const PUBLISHER: usize = 0;
const STEADY_PER_SECOND: f64 = 10.0;
/// The most sockets for which the machine's own limit of the live measurements is taken.
const BARE_SOCKETS: usize = 1_000;

/// One of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Measurement {
    /// REQ and COUNT by shape of filter, on the stored events.
    Query,
    /// Deliveries to subscribers, flooding and at 10 events/s.
    Live,
    /// New events accepted.
    Publish,
    /// Memory of connections that do nothing.
    Idle,
}

/// The relay to measure.
#[derive(Debug, Clone)]
pub enum Where {
    /// A relay that runs already, and holds the events that `loadtest fill` wrote with the same seed and number.
    Running {
        /// Its URL.
        url: String,
        /// Its process, where it is on this machine.
        pid: Option<u32>,
    },
    /// A relay to start, fill and stop; its `directory` is temporary.
    Spawned(Relay),
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The relay.
    pub place: Where,
    /// What to measure.
    pub measurements: Vec<Measurement>,
    /// The stored events.
    pub data: Plan,
    /// The number of their authors.
    pub authors: usize,
    /// A file with these events; written where it is missing.
    pub data_file: Option<PathBuf>,
    /// Rounds of each figure.
    pub rounds: usize,
    /// How long a round of queries or publishing lasts.
    pub round_lasts: Duration,
    /// Events signed beforehand for each round of publishing.
    pub publish_events: usize,
    /// Subscribers of the live measurements.
    pub subscribers: usize,
    /// Connections of the idle measurement.
    pub idle_connections: usize,
    /// Source addresses; empty for the system's choice.
    pub sources: Vec<IpAddr>,
}

/// What measurements share.
struct PlanRun<'a> {
    bench: &'a Bench,
    authors: Authors,
    keys: Keys,
    limits: Limits,
    rows: Vec<Row>,
    /// The seed of the next fresh events.
    fresh: Random,
    /// The ids of those so far.
    signed: FxHashSet<[u8; 32]>,
}

impl Bench {
    /// Takes all measurements, prints each row as soon as it is there, and returns all rows. To be run in a `LocalSet`.
    ///
    /// # Errors
    /// Too few descriptors, a relay that cannot be started or reached, a connection that breaks, a data set that is too
    /// small for the questions.
    pub async fn run(&self) -> anyhow::Result<BenchReport> {
        raise_open_files(self.subscribers.max(self.idle_connections).max(2 * BARE_SOCKETS) as u64 + 100)?;
        let directory = match &self.place {
            Where::Spawned(relay) => relay.directory.clone(),
            Where::Running { .. } => std::env::temp_dir(),
        };
        let machine = Machine::look();
        println!("{machine}");
        let limits = Limits::measure(&directory).context("measuring the machine's limits")?;
        println!(
            "limits: signature {:.1} µs of a core, fdatasync {:.0} µs, loopback send {:.1} µs, echo {:.1} µs",
            limits.verify_us, limits.fsync_us, limits.send_us, limits.echo_us
        );

        let authors = Authors::derive(self.data.seed, self.authors);
        let keys = self.load(&authors, &directory)?;
        ensure!(!keys.is_thin(), "{} events are too few to ask about: take 1000 or more", self.data.events);
        // A relay that keeps running has seen the events of the last run: this run must publish others.
        let salt = match &self.place {
            Where::Running { .. } => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64,
            Where::Spawned(_) => 1,
        };

        let fresh = Random::new(self.data.seed ^ salt);
        let mut run =
            PlanRun { bench: self, authors, keys, limits, rows: Vec::new(), fresh, signed: FxHashSet::default() };
        println!("{}", Row::head());
        for measurement in &self.measurements {
            run.measure(*measurement).await?;
        }
        Ok(BenchReport { machine, limits, stored_events: self.data.events, seed: self.data.seed, rows: run.rows })
    }

    /// Makes the stored events, for their keys, and loads them into the relay that the run starts.
    fn load(&self, authors: &Authors, directory: &Path) -> anyhow::Result<Keys> {
        let bar = progress(self.data.events, "events made");
        let Where::Spawned(relay) = &self.place else {
            return Ok(fill(self.data, authors, false, &mut io::sink(), || bar.inc(1))?);
        };
        let file = self.data_file.clone().unwrap_or_else(|| directory.join("events.jsonl"));
        let keys = if file.exists() {
            let first = Generator::new(self.data, authors).next().context("no events to make")?;
            let mut line = String::new();
            BufReader::new(File::open(&file)?).read_line(&mut line)?;
            let same = line.trim_end() == first.with_made_up_signature();
            ensure!(same, "{} holds other events than these: another seed, number or version", file.display());
            fill(self.data, authors, false, &mut io::sink(), || bar.inc(1))?
        } else {
            let mut out = BufWriter::new(File::create(&file).with_context(|| file.display().to_string())?);
            let keys = fill(self.data, authors, false, &mut out, || bar.inc(1))?;
            out.flush()?;
            keys
        };

        bar.finish_and_clear();
        let start = std::time::Instant::now();
        relay.import(&file)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("imported {} events in {seconds:.1} s: {:.0}/s", self.data.events, self.data.events as f64 / seconds);
        Ok(keys)
    }
}

impl PlanRun<'_> {
    /// Takes one measurement. Starts a relay for it and stops it afterwards, so that no measurement finds the caches,
    /// the memory or the backlog of the one before.
    async fn measure(&mut self, measurement: Measurement) -> anyhow::Result<()> {
        let (running, url, pid) = match &self.bench.place {
            Where::Running { url, pid } => (None, url.clone(), *pid),
            Where::Spawned(relay) => {
                let running = relay.serve()?;
                let (url, pid) = (running.url.clone(), running.pid());
                (Some(running), url, Some(pid))
            }
        };

        let target = Target::resolve(&url)?;
        let site = Site { target, sources: self.bench.sources.clone(), pid, scratch: Scratch::new() };
        match measurement {
            Measurement::Query => self.query(&site).await?,
            Measurement::Live => self.live(&site).await?,
            Measurement::Publish => self.publish(&site).await?,
            Measurement::Idle => {
                let Some(pid) = pid else { bail!("idle reads the relay's memory: give its process with --pid") };
                idle(&site, Process(pid), self.bench.idle_connections).await?.into_iter().for_each(|row| self.row(row));
            }
        }

        running.map_or(Ok(Duration::ZERO), Running::stop).context("stopping the relay")?;
        Ok(())
    }

    /// Makes and signs `events` that no relay has seen, dated now. Leaves out an event that equals one of an earlier
    /// round: the same words in the same second make the same id.
    fn sign(&mut self, events: usize, kinds: Kinds) -> anyhow::Result<Vec<Signed>> {
        let until = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let plan = Plan { seed: self.fresh.bits(), events, until, span_seconds: 60, kinds };
        let mut events = sign_all(Generator::new(plan, &self.authors).collect(), &self.authors);
        events.retain(|event| self.signed.insert(event.id));
        Ok(events)
    }

    fn row(&mut self, row: Row) {
        println!("{row}");
        self.rows.push(row);
    }

    async fn query(&mut self, site: &Site) -> anyhow::Result<()> {
        // No relay answers faster than an echo does, on as many connections as there are cores to answer.
        let bound = CONNECTIONS.min(2) as f64 * 1e6 / self.limits.echo_us;
        for shape in Shape::ALL {
            let mut random = Random::new(self.bench.data.seed ^ shape as u64);
            let asked = Rc::<[_]>::from(questions(shape, QUESTIONS, &self.keys, &self.authors, &mut random));
            let mut rounds = Vec::new();
            for _ in 0..self.bench.rounds {
                let schedule = QuestionSchedule::in_turn(asked.clone());
                rounds.push(query(site, CONNECTIONS, self.bench.round_lasts, schedule).await?);
            }

            let mut row = Row::rate(shape.name(), "queries/s", &rounds).with_rows(&rounds);
            row = row.with_bound(bound, "loopback echo on 2 cores");
            if row.rows_per_answer == Some(0.0) {
                row.faults.add("every answer was empty: does the relay hold the events of this seed?", 1);
            }
            self.row(row);
        }
        Ok(())
    }

    async fn live(&mut self, site: &Site) -> anyhow::Result<()> {
        let subscribers = self.bench.subscribers;
        let events = |seconds: f64| ((STEADY_PER_SECOND * seconds) as usize).max(10);
        let flood = (400_000 / subscribers.max(1)).clamp(20, 2_000);
        let paces = [
            ("flood", LivePace::Flood { under_way: UNDER_WAY }, flood),
            (
                "10 events/s",
                LivePace::Steady { per_second: STEADY_PER_SECOND },
                events(self.bench.round_lasts.as_secs_f64()),
            ),
        ];

        for (name, pace, count) in paces {
            let mut rounds = Vec::new();
            for _ in 0..self.bench.rounds {
                let events = self.sign(count, Kinds::NotesOf(PUBLISHER))?;
                let plan = Live { subscribers, pace, events, author: PUBLISHER, silence: SILENCE };
                rounds.push(live(site, plan, &self.authors, &mut Random::new(self.bench.data.seed)).await?);
            }
            let row = Row::rate(format!("{name}, {subscribers} subscribers"), "deliveries/s", &rounds);
            self.row(match pace {
                LivePace::Flood { .. } => row.with_bound(1e6 / self.limits.send_us, "one core sends each in a write"),
                // The publisher sets the rate; this measures the latency.
                LivePace::Steady { .. } => {
                    let bare = fan_out(subscribers.min(BARE_SOCKETS))?.summary().context("no subscribers")?;
                    row.with_bound(bare.p50, format!("ms p50, {:.2} p99 from one bare thread to another", bare.p99))
                }
            });
        }
        Ok(())
    }

    async fn publish(&mut self, site: &Site) -> anyhow::Result<()> {
        let Limits { verify_us, fsync_us, .. } = self.limits;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let shapes = [(CONNECTIONS, IN_FLIGHT, cores * 1e6 / verify_us), (1, 1, 1e6 / (verify_us + fsync_us))];
        for (connections, in_flight, bound) in shapes {
            let mut rounds = Vec::new();
            for _ in 0..self.bench.rounds {
                let count = self.bench.publish_events.min(if in_flight == 1 { 20_000 } else { usize::MAX });
                let events = self.sign(count, Kinds::Regular)?;
                let plan = Publish { connections, in_flight, at_most: self.bench.round_lasts };
                rounds.push(publish(site, plan, events).await?);
            }
            let name = format!("publish, {connections} x {in_flight} in flight");
            let why = if in_flight == 1 { "signature + fdatasync" } else { "signatures on all cores" };
            self.row(Row::rate(name, "events/s", &rounds).with_bound(bound, why));
        }
        Ok(())
    }
}

/// A progress bar on standard error; hidden where that is no terminal.
pub fn progress(length: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} {msg} {per_sec} {eta}") {
        bar.set_style(style);
    }
    bar.with_message(what.to_owned())
}
