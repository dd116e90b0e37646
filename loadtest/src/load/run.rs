//! The coordinator of a run, from the first connection to the last account.

use super::scrape::{changed, get, purge, samples};
use super::signer::{self, ReplayError};
use super::summary::{Rows, summarise};
use super::thread::{Findings, work};
use super::watch::Watch;
use super::worker::{Gauge, LoadPhase, LoadShared};
use super::{Cache, Options, Pace, Surroundings, Workload};
use crate::bench::{Question, Shape, questions};
use crate::client::{Target, TargetError};
use crate::events::{Authors, Kinds, Plan, Random, Zipf, fill};
use crate::report::Run;
use crate::system::{OpenFilesError, Process, raise_open_files};
use std::fs::File;
use std::io::{self, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// The exponent of the authors' Zipf distribution.
const SKEW: f64 = 0.9;
/// The most connections from one source address: well below the number of its ports.
const PER_SOURCE: usize = 10_000;
/// Descriptors for other things than connections.
const SPARE_FILES: u64 = 200;
/// Different questions of each shape.
const QUESTIONS_OF_A_SHAPE: usize = 1_000;
/// How long no connection may change before the run starts without the missing ones.
const STUCK: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the figures of the last second may take to arrive.
const GRACE: Duration = Duration::from_millis(150);

/// Why a run could not take place.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Too few descriptors may be open.
    #[error(transparent)]
    OpenFiles(#[from] OpenFilesError),
    /// A URL cannot be connected to.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The file to replay cannot be read.
    #[error("cannot replay: {0}")]
    Replay(#[from] ReplayError),
    /// An error of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No connection could be made; carries the most frequent reason.
    #[error("not one connection could be made: {0}")]
    Unreachable(String),
    /// The relay's admin listener or its metrics cannot be reached.
    #[error("the relay's admin address: {0}")]
    Admin(io::Error),
}

/// Shows the progress of a run.
pub trait Watcher {
    /// A phase begins.
    fn phase(&mut self, words: &str);
    /// The phase has done `done` of `of`; `words` describe its last second.
    fn progress(&mut self, done: u64, of: u64, words: &str);
}

struct Threads {
    shared: Arc<LoadShared>,
    phase: watch::Sender<LoadPhase>,
    handles: Vec<JoinHandle<io::Result<Findings>>>,
}

/// Runs the load and makes the report. Ctrl-C ends the schedule early: then the report covers what was done, and the
/// second value is `true`.
///
/// # Errors
/// See [`LoadError`]. A connection that breaks later is part of the report.
pub async fn run(options: Options, around: &Surroundings, watcher: &mut dyn Watcher) -> Result<(Run, bool), LoadError> {
    raise_open_files(options.connections as u64 + SPARE_FILES)?;
    watcher.phase("making and signing events");
    let shared = Arc::new(prepare(options)?);
    let signer = spawn_signer(shared.clone())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    while !shared.timeline.is_ready() {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = interrupted.recv() => { shared.timeline.end(); return Err(io::Error::from(io::ErrorKind::Interrupted).into()) }
        }
        watcher.progress(shared.timeline.made(), 0, "events");
    }

    let own = Process(std::process::id());
    let memory = || own.memory().map_or(0, |memory| memory.anonymous);
    let (threads, ticks) = Threads::start(shared.clone())?;
    let before = memory();
    watcher.phase("connecting");
    let mut stopped = threads.connect(watcher, &mut interrupted).await;
    let grown = memory().saturating_sub(before);
    let most_live = threads.sum(|gauge| gauge.live.load(Ordering::Acquire));
    if most_live == 0 || stopped {
        shared.timeline.end();
        let findings = threads.stop()?;
        let words = findings.iter().flat_map(|found| &found.recorder.errors.0).max_by_key(|(_, times)| **times);
        let words = words.map_or_else(|| "it was interrupted, or got no answer".to_owned(), |(words, _)| words.clone());
        return Err(LoadError::Unreachable(words));
    }

    if let (Some(Cache::Cold), Some(url)) = (around.cache, &around.admin_url) {
        purge(url, around.admin_token.as_deref()).map_err(LoadError::Admin)?;
    }
    if shared.options.warm {
        watcher.phase("warming");
        threads.phase.send_replace(LoadPhase::Warm);
        threads.all_done(1, watcher, &mut interrupted).await;
    }

    let scrape = || around.metrics_url.as_deref().map(get).transpose();
    let metrics = scrape().map_err(LoadError::Admin)?.map(|text| samples(&text));
    let mut rows = Rows::new(shared.options.threads, Watch::new(&around.pids), ticks);
    watcher.phase("running");
    let start = Instant::now() + LOOK_EVERY;
    threads.phase.send_replace(LoadPhase::Run(start.duration_since(shared.origin).as_nanos() as u64));
    stopped |= threads.schedule(start, &mut rows, watcher, &mut interrupted).await;
    let ran = start.elapsed().min(shared.options.duration);
    shared.timeline.end();
    watcher.phase("waiting for what is under way");
    threads.phase.send_replace(LoadPhase::Drain);
    stopped |= threads.drain(&mut rows, watcher, &mut interrupted).await;
    let used = rows.used();
    let metrics_after = scrape().ok().flatten().map(|text| samples(&text));
    watcher.phase("looking at what is stored");
    threads.phase.send_replace(LoadPhase::Check);
    let done = if shared.options.warm { 2 } else { 1 };
    stopped |= threads.all_done(done, watcher, &mut interrupted).await;
    rows.drain();
    let findings = threads.stop()?;
    let _ = signer.join();
    let mut run = summarise(&shared, around, rows, findings, ran, used);
    run.connections_live = run.connections_live.max(most_live);
    run.tester.bytes_per_connection = grown as f64 / shared.options.connections as f64;
    if let Some((before, after)) = metrics.zip(metrics_after) {
        run.metrics = changed(&before, &after);
    }

    if stopped {
        run.notes.push("it was interrupted: figures are of a shorter run".to_owned());
    }
    Ok((run, stopped))
}

impl Threads {
    fn start(shared: Arc<LoadShared>) -> io::Result<(Self, mpsc::Receiver<super::recorder::Tick>)> {
        let (phase, watched) = watch::channel(LoadPhase::Connect);
        let (ticks, received) = mpsc::channel(4 * shared.options.threads);
        let mut handles = Vec::new();
        for thread in 0..shared.options.threads {
            let (shared, watched, ticks) = (shared.clone(), watched.clone(), ticks.clone());
            let named = thread::Builder::new().name(format!("load-{thread}"));
            handles.push(named.spawn(move || work(shared, thread, watched, ticks))?);
        }
        Ok((Self { shared, phase, handles }, received))
    }

    fn sum(&self, of: impl Fn(&Gauge) -> usize) -> usize {
        self.shared.gauges.iter().map(of).sum()
    }

    /// Waits for [`LOOK_EVERY`]; true when the run must end: at Ctrl-C, or when a thread has failed.
    async fn wait(&self, interrupted: &mut Signal) -> bool {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => self.handles.iter().any(JoinHandle::is_finished),
            _ = interrupted.recv() => true,
        }
    }

    async fn connect(&self, watcher: &mut dyn Watcher, interrupted: &mut Signal) -> bool {
        let all = self.shared.options.connections;
        let mut last = (0, Instant::now());
        loop {
            let settled = self.sum(|gauge| gauge.settled.load(Ordering::Acquire));
            watcher.progress(settled as u64, all as u64, "connections");
            if settled != last.0 {
                last = (settled, Instant::now());
            }
            if settled >= all || last.1.elapsed() > STUCK {
                return false;
            }
            if self.wait(interrupted).await {
                return true;
            }
        }
    }

    async fn all_done(&self, phases: usize, watcher: &mut dyn Watcher, interrupted: &mut Signal) -> bool {
        loop {
            let done = self.shared.gauges.iter().filter(|gauge| gauge.done.load(Ordering::Acquire) >= phases).count();
            watcher.progress(done as u64, self.shared.options.threads as u64, "threads done");
            if done == self.shared.options.threads {
                return false;
            }
            if self.wait(interrupted).await {
                return true;
            }
        }
    }

    async fn schedule(
        &self,
        start: Instant,
        rows: &mut Rows,
        watcher: &mut dyn Watcher,
        interrupted: &mut Signal,
    ) -> bool {
        let options = &self.shared.options;
        // A schedule with a limited number of events ends with them; any other lasts the whole duration.
        let limited = options.events.is_some() || options.replay.is_some();
        let may_end = options.workload.mix().publishes && (limited || matches!(options.pace, Pace::InFlight(_)));
        let all = options.duration.as_secs_f64().ceil() as u64;
        while start.elapsed() < options.duration + GRACE {
            rows.take(options.duration.as_secs_f64());
            self.shared.timeline.trim(options.threads);
            watcher.progress(start.elapsed().as_secs().min(all), all, &rows.words());
            let exhausted = self.shared.gauges.iter().all(|gauge| gauge.exhausted.load(Ordering::Acquire));
            if may_end && exhausted {
                return false;
            }
            if self.wait(interrupted).await {
                return true;
            }
        }
        false
    }

    /// Waits until all deliveries and answers have come, or none has for the run's patience.
    async fn drain(&self, rows: &mut Rows, watcher: &mut dyn Watcher, interrupted: &mut Signal) -> bool {
        let mut last = (0, Instant::now());
        loop {
            rows.drain();
            let outstanding = self.shared.gauges.iter().map(|gauge| gauge.outstanding.load(Ordering::Acquire));
            let looked = outstanding.clone().all(|left| left > 0);
            let left = outstanding.sum::<u64>().saturating_sub(self.shared.options.threads as u64);
            watcher.progress(0, left, "deliveries and answers to come");
            if (left, looked) != (last.0, true) {
                last = (left, Instant::now());
            }

            if looked && (left == 0 || last.1.elapsed() > self.shared.options.patience) {
                return false;
            }
            if self.wait(interrupted).await {
                return true;
            }
        }
    }

    fn stop(self) -> io::Result<Vec<Findings>> {
        self.phase.send_replace(LoadPhase::Stop);
        let join = |handle: JoinHandle<_>| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.handles.into_iter().map(join).collect()
    }
}

/// Makes the shared state, before the first connection.
fn prepare(options: Options) -> Result<LoadShared, LoadError> {
    let targets = options.urls.iter().map(|url| Target::resolve(url)).collect::<Result<Vec<_>, _>>()?;
    let mut sources = options.sources.clone();
    let local = targets.iter().all(|target| matches!(target.address.ip(), IpAddr::V4(ip) if ip.is_loopback()));
    if sources.is_empty() && local && options.connections > PER_SOURCE {
        let count = options.connections.div_ceil(PER_SOURCE).min(250) as u8;
        sources = (1..=count).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).collect();
    }

    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?.as_secs();
    let (questions, classes) = match options.workload {
        Workload::Query => ask_about(&options),
        _ if options.workload.mix().questions > 0 => {
            (Vec::new(), ["feed", "profile", "thread", "mentions"].map(str::to_owned).to_vec())
        }
        _ => (Vec::new(), Vec::new()),
    };

    let gauges = (0..options.threads).map(|_| Gauge::default()).collect();
    let mut shared = LoadShared {
        targets,
        sources,
        timeline: Default::default(),
        origin: Instant::now(),
        unix,
        keys: Arc::from([]),
        people: Zipf::new(1, SKEW),
        questions,
        classes,
        dated: options.replay.is_none(),
        gauges,
        replay: parking_lot::Mutex::default(),
        authors: None,
        options,
    };

    if let Some(path) = &shared.options.replay {
        let file = File::open(path)?;
        let replay = signer::read(BufReader::new(file), &shared.options)?;
        shared.people = Zipf::weighted(replay.written.iter().map(|times| f64::from(*times)));
        shared.keys = replay.people.into();
        *shared.replay.get_mut() = replay.events;
    } else {
        let count = shared.options.author_count();
        let authors = Authors::derive(shared.options.seed, count);
        shared.keys = (0..count).map(|author| authors.hex(author).to_owned()).collect();
        shared.people = Zipf::new(count, SKEW);
        shared.authors = Some(authors);
    }
    Ok(shared)
}

/// Draws questions of every shape in turn about the events that `loadtest fill` wrote.
fn ask_about(options: &Options) -> (Vec<(u8, Question)>, Vec<String>) {
    let authors = Authors::derive(options.seed, options.filled_authors);
    let plan = Plan {
        seed: options.seed,
        events: options.filled,
        until: options.filled_until,
        span_seconds: crate::events::FILL_SPAN_SECONDS,
        kinds: Kinds::Mixed,
    };

    let Ok(keys) = fill(plan, &authors, false, &mut io::sink(), || ()) else { return Default::default() };
    if keys.is_thin() {
        return Default::default();
    }
    let mut random = Random::new(options.seed);
    let draw = |shape| questions(shape, QUESTIONS_OF_A_SHAPE, &keys, &authors, &mut random);
    let mut each = Shape::ALL.map(draw).map(Vec::into_iter);
    let mut all = Vec::with_capacity(QUESTIONS_OF_A_SHAPE * each.len());
    for _ in 0..QUESTIONS_OF_A_SHAPE {
        for (class, shape) in each.iter_mut().enumerate() {
            all.extend(shape.next().map(|question| (2 * class as u8, question)));
        }
    }

    let classes = Shape::ALL.iter().flat_map(|shape| ["cold", "hot"].map(|heat| format!("{}, {heat}", shape.name())));
    (all, classes.collect())
}

fn spawn_signer(shared: Arc<LoadShared>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("signer".to_owned()).spawn(move || {
        let LoadShared { timeline, options, .. } = &*shared;
        match &shared.authors {
            _ if !options.workload.mix().publishes => timeline.end(),
            Some(authors) => signer::sign(options, authors, shared.unix, timeline),
            None => signer::play(std::mem::take(&mut shared.replay.lock()), timeline),
        }
    })
}
