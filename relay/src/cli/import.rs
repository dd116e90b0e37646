//! `relay import`: stores the events of a JSONL file.

use super::progress::{self, Bar};
use crate::app::Opened;
use crate::config::{Sources, cores, load};
use crate::policy::Rules;
use crate::task::Tasks;
use crate::transfer::{ImportReport, ImportSettings, Rejected, import};
use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Lines up to this long are read, whatever the limit on client messages: 16 MiB.
const MAX_LINE_BYTES: usize = 16 << 20;

/// How many rejected lines are printed where no file takes them.
const MAX_PRINTED_REJECTS: u64 = 20;

/// An import that stores so many events vacuums and analyses PostgreSQL at its end. Until autovacuum comes, a server
/// without statistics may choose the wrong index: a feed of 300 authors among 10,000 events took 480 ms before, 12 ms
/// after.
const VACUUM_THRESHOLD_EVENTS: u64 = 1_000;

pub(super) fn command() -> Command {
    Command::new("import")
        .about("Store the events of a JSONL file; `-` or nothing: standard input")
        .long_about(
            "Store the events of a JSONL file, one event a line. Ids and signatures are checked. The relay on a \
             SQLite database must be stopped; those on PostgreSQL may run, and their tables are vacuumed after a large import. An import that was interrupted is resumed by running it again: what is already \
             stored goes by without a signature check.",
        )
        .arg(Arg::new("file").value_name("FILE").value_parser(value_parser!(PathBuf)).help("The file, or -"))
        .arg(
            Arg::new("no-verify")
                .long("no-verify")
                .action(ArgAction::SetTrue)
                .help("Trust the signatures: for files that a relay of yours has exported. Ids are still checked"),
        )
        .arg(
            Arg::new("rejects")
                .long("rejects")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write the lines that are no valid events here, instead of telling the first few; must not exist yet"),
        )
}

pub(super) fn run(arguments: &ArgMatches, sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources)?;
    let path = arguments.get_one::<PathBuf>("file").filter(|path| path.as_os_str() != "-");
    let (source, bytes) = open(path.map(PathBuf::as_path))?;
    let settings = ImportSettings {
        verify: !arguments.get_flag("no-verify"),
        threads: cores(),
        max_line_bytes: MAX_LINE_BYTES,
        own_urls: Rules::new(&loaded.config).own_urls,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let opened = Opened::open(&loaded.config, Tasks::detached()).await?;
        let store = opened.store();
        // After the store: an import that cannot begin must leave no file behind, which would make the next one fail.
        let mut rejects = Rejects::new(arguments.get_one::<PathBuf>("rejects"))?;
        let bar = Bar::bytes(bytes);
        let result = import(source, store.clone(), settings, |report, rejected| {
            bar.at(report.bytes, &format!("{} stored, {} known", report.stored, report.duplicate));
            rejects.take(&bar, rejected);
        })
        .await;
        if let (Ok(report), Some(postgres)) = (&result, opened.postgres())
            && report.stored >= VACUUM_THRESHOLD_EVENTS
        {
            bar.at(report.bytes, "all stored; vacuuming, so that indexes alone answer");
            if let Err(error) = postgres.vacuum().await {
                bar.tell(&format!(
                    "everything is stored, but VACUUM (ANALYZE) failed, so reads are slow at first: {error}"
                ));
            }
        }
        store.close().await;
        let report = result?;
        bar.done();
        rejects.finish()?;
        eprintln!("{}", summary(&report, bar.seconds()));
        Ok(if report.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// The source and its size, where it has one.
fn open(path: Option<&Path>) -> anyhow::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    let Some(path) = path else { return Ok((Box::new(BufReader::new(std::io::stdin())), None)) };
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bytes = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), bytes))
}

fn summary(report: &ImportReport, seconds: f64) -> String {
    let rate = progress::rate(report.lines, seconds);
    let ImportReport { lines, stored, duplicate, superseded, deleted, not_kept, rejected, .. } = report;
    format!(
        "{lines} lines in {seconds:.1} s ({rate} a second): {stored} stored, {duplicate} known before, {superseded} \
         superseded, {deleted} deleted by their authors, {not_kept} expired, ephemeral or vanished, {rejected} rejected"
    )
}

/// Writes the rejected lines to a file, or prints the first of them.
struct Rejects {
    file: Option<BufWriter<File>>,
    printed: u64,
    error: Option<std::io::Error>,
}

impl Rejects {
    fn new(path: Option<&PathBuf>) -> anyhow::Result<Self> {
        let create =
            |path: &PathBuf| File::create_new(path).with_context(|| format!("cannot create {}", path.display()));
        Ok(Self { file: path.map(create).transpose()?.map(BufWriter::new), printed: 0, error: None })
    }

    fn take(&mut self, bar: &Bar, rejected: Vec<Rejected>) {
        for Rejected { line, reason, text } in rejected {
            match (&mut self.file, text) {
                (Some(file), Some(text)) => {
                    if let Err(error) = writeln!(file, "{}", text.trim_end()) {
                        self.error.get_or_insert(error);
                    }
                    continue;
                }
                // The line was too long or not UTF-8, so it cannot be written for another import.
                (Some(_), None) => bar.tell(&format!("line {line}: {reason}; it is not among the rejected lines")),
                (None, _) if self.printed < MAX_PRINTED_REJECTS => bar.tell(&format!("line {line}: {reason}")),
                (None, _) if self.printed == MAX_PRINTED_REJECTS => {
                    bar.tell("further rejected lines are only counted (see --rejects)")
                }
                (None, _) => {}
            }
            self.printed += 1;
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        if let Some(error) = self.error {
            return Err(error).context("cannot write the rejected lines");
        }
        self.file.map_or(Ok(()), |mut file| file.flush()).context("cannot write the rejected lines")
    }
}
