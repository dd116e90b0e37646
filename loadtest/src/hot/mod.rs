//! What the relay's cache is worth: the same questions to a cluster of its own with the caches off, cold, warm, and to an
//! instance that has just started beside warm ones, while events are published.

mod figures;
mod phase;
mod report;
mod stage;
mod work;

pub use report::{HotReport, PhaseReport};

use crate::bench::progress;
use crate::events::{Authors, FILL_SPAN_SECONDS, Kinds, Plan, fill};
use crate::system::Machine;
use anyhow::{Context, ensure};
use phase::Phase;
use stage::Stage;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use work::{Work, publish};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Hot {
    /// The relay's binary.
    pub program: PathBuf,
    /// Events that lie in the database.
    pub events: usize,
    /// How many people wrote them.
    pub authors: usize,
    /// When the newest of them is from.
    pub until: u64,
    /// Of all that is random.
    pub seed: u64,
    /// Different filters.
    pub filters: usize,
    /// How skewed they are: Zipf's exponent.
    pub skew: f64,
    /// Instances.
    pub instances: usize,
    /// Replicas of the database.
    pub replicas: usize,
    /// Connections to each instance, each of which waits for its answer before it asks on.
    pub connections: usize,
    /// How long each phase lasts.
    pub lasts: Duration,
    /// Events published a second meanwhile.
    pub rate: f64,
    /// Questions to the instance that starts cold.
    pub fourth: u64,
    /// More settings of the relays: variable and value.
    pub settings: Vec<(String, String)>,
}

impl Hot {
    /// Runs all phases. Run it in a `LocalSet` of a runtime with one thread.
    ///
    /// # Errors
    /// A server or a relay that does not start, a connection that breaks.
    pub async fn run(&self) -> anyhow::Result<HotReport> {
        let machine = Machine::look();
        println!("{machine}");
        let authors = Authors::derive(self.seed, self.authors);
        let mut stage = Stage::start(self).await?;
        let work = self.fill(&stage, &authors)?;
        println!("{} different filters, {} draws", work.different(), work.drawn.len());
        let mut phases = Vec::new();

        stage.relays_with(self.instances, &[("RELAY_CACHE_L1", "off"), ("RELAY_CACHE_L2", "off")]).await?;
        phases.push(self.phase("caches off", &stage, &work, &authors).await?);

        stage.relays_with(self.instances, &[]).await?;
        phases.push(self.phase("cold", &stage, &work, &authors).await?);
        println!("warming with each filter once");
        let publishing = publish(&stage, self, &authors)?;
        let warmed = phase::ask_all(&stage, self.connections, &work).await?;
        publishing.abort();
        println!("{} answers in {:.1} s", warmed.0, warmed.1.as_secs_f64());
        phases.push(self.phase("warm", &stage, &work, &authors).await?);

        stage.add().await?;
        let publishing = publish(&stage, self, &authors)?;
        let mut fourth = Phase::begin("one more, cold", &stage, &[self.instances])?;
        while fourth.asked() < self.fourth && fourth.seconds() < 600 {
            fourth.second(self.connections, &work, self.fourth).await?;
        }
        publishing.abort();
        phases.push(fourth.end()?);
        stage.stop().await?;
        Ok(HotReport::new(self, machine, phases))
    }

    async fn phase(&self, name: &str, stage: &Stage, work: &Work, authors: &Authors) -> anyhow::Result<PhaseReport> {
        println!("{name}");
        let publishing = publish(stage, self, authors)?;
        let all: Vec<usize> = (0..self.instances).collect();
        let mut phase = Phase::begin(name, stage, &all)?;
        while phase.seconds() < self.lasts.as_secs().max(1) {
            phase.second(self.connections, work, u64::MAX).await?;
        }
        publishing.abort();
        phase.end()
    }

    /// Makes the events and loads them into the database.
    fn fill(&self, stage: &Stage, authors: &Authors) -> anyhow::Result<Work> {
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
        stage.import(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Work::draw(self, &keys, authors))
    }
}

/// Writes report.json and cache.png into `directory`.
///
/// # Errors
/// The files'.
pub fn write(report: &HotReport, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    std::fs::write(directory.join("cache.json"), serde_json::to_vec_pretty(report)?)?;
    crate::report::draw(&report.charts(), &directory.join("cache.png"))?;
    Ok(())
}
