//! `relay export`: writes the store as JSONL, also while a relay runs on it.

use super::filter_argument;
use super::partial::{Partial, unless_stopped};
use super::progress::{self, Bar};
use crate::app::{Opened, sqlite_options};
use crate::config::{Config, Sources, load};
use crate::store::sqlite::Archive;
use crate::store::{Store, StoreError};
use crate::transfer::{ExportError, ExportReport, export, export_pages};
use crate::types::Filter;
use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn command() -> Command {
    Command::new("export")
        .about("Write the stored events as JSONL to a file; `-` or nothing: standard output")
        .long_about(
            "Write the stored events as JSONL, one event a line, in the order in which they came; from PostgreSQL, \
             the oldest first. A relay may run on the database meanwhile.",
        )
        .arg(Arg::new("file").value_name("FILE").value_parser(value_parser!(PathBuf)).help("The file, or -"))
        .arg(filter_argument())
}

pub(super) fn run(arguments: &ArgMatches, sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources)?;
    let path = arguments.get_one::<PathBuf>("file").filter(|path| path.as_os_str() != "-");
    let filter = arguments.get_one::<Filter>("filter");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // The database is opened first: a wrong URL must not leave an empty file behind.
        let mut source = ExportSource::open(&loaded.config).await?;
        match path {
            Some(path) => unless_stopped(to_file(&mut source, filter, path)).await?,
            // Without a handler, a signal ends the process at once, even while a write to standard output blocks.
            None => {
                let out = BufWriter::with_capacity(1 << 16, std::io::stdout());
                to(&mut source, filter, out).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn to_file(source: &mut ExportSource, filter: Option<&Filter>, path: &Path) -> anyhow::Result<()> {
    let partial = Partial::new(path)?;
    let file = File::create(partial.path()).with_context(|| format!("cannot create {}", partial.path().display()))?;
    to(source, filter, BufWriter::with_capacity(1 << 20, file)).await?;
    partial.finish()
}

async fn to(source: &mut ExportSource, filter: Option<&Filter>, mut out: impl Write + Send) -> anyhow::Result<()> {
    let bar = Bar::items(source.events_at_most().await?);
    let result = source.export(filter, &mut out, |report| bar.at(report.seen, "")).await;
    bar.done();
    let report = result?;
    let seconds = bar.seconds();
    eprintln!(
        "{} of {} events written in {seconds:.1} s ({} a second)",
        report.written,
        report.seen,
        progress::rate(report.seen, seconds)
    );
    Ok(())
}

/// Where the events come from.
enum ExportSource {
    File(Archive),
    Servers(Arc<dyn Store>),
}

impl ExportSource {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        if config.database.is_postgres() {
            return Ok(Self::Servers(Opened::open_for_operator(config).await?.store()));
        }
        Ok(Self::File(Archive::open(&sqlite_options(config)).await?))
    }

    async fn events_at_most(&mut self) -> Result<Option<u64>, StoreError> {
        match self {
            Self::File(archive) => Ok(Some(archive.stats().await?.events_at_most)),
            Self::Servers(_) => Ok(None),
        }
    }

    async fn export(
        &mut self,
        filter: Option<&Filter>,
        out: &mut (dyn Write + Send),
        progress: impl FnMut(ExportReport) + Send,
    ) -> Result<ExportReport, ExportError> {
        match self {
            Self::File(archive) => export(archive, filter, out, progress).await,
            Self::Servers(store) => export_pages(&**store, filter, out, progress).await,
        }
    }
}
