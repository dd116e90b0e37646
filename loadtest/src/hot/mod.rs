//! Measures the benefit of the relay's cache. It asks the same questions of a cluster with the caches off, cold and
//! warm, then of an instance that has just started beside warm ones, while events are published.

mod figures;
mod phase;
mod report;
mod stage;
mod work;

pub use phase::PhaseBound;
pub use report::{HotReport, PhaseReport, TargetReport};

use crate::bench::progress;
use crate::events::{Authors, FILL_SPAN_SECONDS, Kinds, Plan, fill};
use crate::system::Machine;
use anyhow::{Context, ensure};
use phase::Phase;
use report::{FOURTH, Ran, WARM};
use stage::Stage;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use work::{Work, publish};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Hot {
    /// The relay's binary.
    pub program: PathBuf,
    /// The number of events in the database.
    pub events: usize,
    /// The number of their authors.
    pub authors: usize,
    /// The date of the newest of them, in unix seconds.
    pub until: u64,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The number of different filters.
    pub filters: usize,
    /// The Zipf exponent of the filters.
    pub skew: f64,
    /// The number of instances.
    pub instances: usize,
    /// The number of the database's replicas.
    pub replicas: usize,
    /// Connections to each instance, each of which waits for an answer before its next question.
    pub connections: usize,
    /// The bound of each phase.
    pub phase: PhaseBound,
    /// The bound of the warming.
    pub warming: PhaseBound,
    /// Events published a second meanwhile.
    pub rate: f64,
    /// The number of questions to the instance that starts cold.
    pub fourth: usize,
    /// Further settings of the relays: variable and value.
    pub settings: Vec<(String, String)>,
}

impl Hot {
    /// Runs all phases. To be run in a `LocalSet` of a runtime with one thread.
    ///
    /// # Errors
    /// A server or a relay that does not start, a connection that breaks.
    pub async fn run(&self) -> anyhow::Result<HotReport> {
        let machine = Machine::look();
        println!("{machine}");
        let authors = Authors::derive(self.seed, self.authors);
        let mut stage = Stage::start(self).await?;
        let (work, import_seconds) = self.fill(&stage, &authors).await?;
        println!("{} different filters, {} but for their limits", work.different(), work.keys());
        let all: Vec<usize> = (0..self.instances).collect();
        let run = RunningPhase { hot: self, work: &work, authors: &authors };

        stage.relays_with(self.instances, &[("RELAY_CACHE_L1", "off"), ("RELAY_CACHE_L2", "off")]).await?;
        let (off, _) = run.phase("caches off", &stage, &all, 0, self.phase).await?;
        // Off and cold ask the same questions in the same order; later phases go on where the one before has ended.
        stage.relays_with(self.instances, &[]).await?;
        let (cold, next) = run.phase("cold", &stage, &all, 0, self.phase).await?;
        let (warming, next) = run.phase("warming", &stage, &all, next, self.warming).await?;
        let filters_warmed = work.asked(next);
        println!("{filters_warmed} of {} filters were asked by now", work.different());
        let (warm, next) = run.phase(WARM, &stage, &all, next, self.phase).await?;
        stage.add().await?;
        let fourth = PhaseBound { questions: self.fourth, ..self.warming };
        let (fourth, _) = run.phase(FOURTH, &stage, &[self.instances], next, fourth).await?;

        stage.stop().await?;
        let phases = vec![off, cold, warming, warm, fourth];
        let report = HotReport::new(self, machine, Ran { keys: work.keys(), filters_warmed, import_seconds, phases });
        report.targets.iter().for_each(|target| println!("{target}"));
        Ok(report)
    }

    /// Makes the events and loads them into the database. Returns the questions about them, and the import's time in
    /// seconds.
    async fn fill(&self, stage: &Stage, authors: &Authors) -> anyhow::Result<(Work, f64)> {
        let plan = Plan {
            seed: self.seed,
            events: self.events,
            until: self.until,
            span_seconds: FILL_SPAN_SECONDS,
            kinds: Kinds::Mixed,
        };

        let path = stage.folder().join("events.jsonl");
        let bar = progress(self.events, "events made");
        let mut out = BufWriter::new(File::create(&path).with_context(|| path.display().to_string())?);
        let keys = fill(plan, authors, false, &mut out, || bar.inc(1))?;
        out.flush()?;
        bar.finish_and_clear();
        ensure!(!keys.is_thin(), "{} events are too few to ask about: take 1000 or more", self.events);
        println!(
            "{} events are made; they are loaded into the database, which is vacuumed and analysed then",
            self.events
        );

        let start = Instant::now();
        stage.import(&path)?;
        let import_seconds = start.elapsed().as_secs_f64();
        std::fs::remove_file(&path)?;
        stage.settle().await?;
        println!("loaded in {import_seconds:.0} s, settled after {:.0} s", start.elapsed().as_secs_f64());
        Ok((Work::draw(self, &keys, authors), import_seconds))
    }
}

/// A run under way.
struct RunningPhase<'a> {
    hot: &'a Hot,
    work: &'a Work,
    authors: &'a Authors,
}

impl RunningPhase<'_> {
    /// Runs a phase on `relays`, from draw number `first` on. Returns its report, and the number of the next draw.
    async fn phase(
        &self,
        name: &str,
        stage: &Stage,
        relays: &[usize],
        first: usize,
        bound: PhaseBound,
    ) -> anyhow::Result<(PhaseReport, usize)> {
        println!("{name}: for {} s or {} REQs", bound.lasts.as_secs(), bound.questions);
        let publishing = publish(stage, self.hot, self.authors, bound.lasts)?;
        let mut phase = Phase::begin(name, stage, relays, first)?;
        phase.ask(self.hot.connections, self.work, bound).await?;
        Ok(phase.end(publishing.stop()))
    }
}

/// Writes cache.json and cache_comparison.png into `directory`.
///
/// # Errors
/// The files'.
pub fn write(report: &HotReport, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    std::fs::write(directory.join("cache.json"), serde_json::to_vec_pretty(report)?)?;
    crate::report::draw(&report.charts(), &directory.join("cache_comparison.png"))?;
    Ok(())
}
