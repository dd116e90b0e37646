//! `loadtest cluster`: measures several instances, which it starts.

use super::show::Show;
use anyhow::Context;
use clap::Args;
use loadtest::bench::{ClusterBench, Part};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct ClusterArguments {
    /// The relay's binary
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", default_value = "across,cost")]
    only: Vec<Part>,
    /// Events a second while it is measured how soon they come
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "100,1000", value_parser = super::positive)]
    rates: Vec<f64>,
    /// How long each load lasts
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::duration)]
    duration: Duration,
    /// Rounds with each number of instances; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = super::at_least_one)]
    rounds: usize,
    /// Events a second while it is measured what they cost
    #[arg(long, value_name = "N", default_value = "200", value_parser = super::positive)]
    rate: f64,
    /// Subscribers to all of these, on all instances together: a measurement for each number
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "60,300", value_parser = super::at_least_one)]
    subscribers: Vec<usize>,
    /// Write all figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl ClusterArguments {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let bench = ClusterBench {
            program: std::path::absolute(&self.spawn)?,
            parts: self.only,
            rates: self.rates,
            lasts: self.duration,
            rounds: self.rounds,
            rate: self.rate,
            subscribers: self.subscribers,
        };

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = runtime.block_on(bench.run(&mut Show::new(None)?))?;
        print!("{}", report.print());
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&report)?;
            std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
        }
        let clean = report.across.iter().all(|across| across.faults == 0);
        Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(crate::EXIT_FAULTS) })
    }
}
