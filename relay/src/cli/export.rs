//! `relay export`: the store as JSONL, beside a running relay too.

use super::filter_argument;
use super::progress::{self, Bar};
use crate::app::store_options;
use crate::config::{Sources, load};
use crate::store::sqlite::Archive;
use crate::transfer::export;
use crate::types::Filter;
use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) fn command() -> Command {
    Command::new("export")
        .about("Write the stored events as JSONL to a file; `-` or nothing: standard output")
        .long_about(
            "Write the stored events as JSONL, one event a line, in the order in which they came. A relay may run on \
             the database meanwhile.",
        )
        .arg(Arg::new("file").value_name("FILE").value_parser(value_parser!(PathBuf)).help("The file, or -"))
        .arg(filter_argument())
}

pub(super) fn run(arguments: &ArgMatches, sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources)?;
    let path = arguments.get_one::<PathBuf>("file").filter(|path| path.as_os_str() != "-");
    let filter = arguments.get_one::<Filter>("filter");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // The database first: a wrong path must not leave an empty file behind.
        let mut archive = Archive::open(&store_options(&loaded.config)).await?;
        let stats = archive.stats().await?;
        let mut out: Box<dyn Write + Send> = match path {
            Some(path) => {
                let file = File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
                Box::new(BufWriter::with_capacity(1 << 20, file))
            }
            None => Box::new(BufWriter::with_capacity(1 << 16, std::io::stdout())),
        };
        let bar = Bar::items(Some(stats.events_at_most));
        let result = export(&mut archive, filter, &mut *out, |report| bar.at(report.seen, "")).await;
        bar.done();
        let report = result?;
        let seconds = bar.seconds();
        eprintln!(
            "{} of {} events written in {seconds:.1} s ({} a second)",
            report.written,
            report.seen,
            progress::rate(report.seen, seconds)
        );
        Ok(ExitCode::SUCCESS)
    })
}
