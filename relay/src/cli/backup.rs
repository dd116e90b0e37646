//! `relay backup`: writes a compact copy of the database, also while a relay runs on it.

use super::partial::{Partial, unless_stopped};
use super::progress::Bar;
use crate::app::sqlite_options;
use crate::config::{Sources, load};
use crate::store::sqlite::Archive;
use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) fn command() -> Command {
    Command::new("backup")
        .about("Copy the database to a new file, while the relay runs")
        .long_about(
            "Copy the database to a new file: one snapshot, compact, complete once it has its name. The relay may \
             run meanwhile. To restore, stop the relay and put the copy in the database's place, without the old \
             -wal and -shm files.",
        )
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The copy; must not exist yet"),
        )
}

pub(super) fn run(arguments: &ArgMatches, sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources)?;
    anyhow::ensure!(
        !loaded.config.database.is_postgres(),
        "a backup of PostgreSQL is made with its own tools, such as pg_basebackup; `relay export` writes the events"
    );
    let Some(path) = arguments.get_one::<PathBuf>("file") else { anyhow::bail!("FILE is missing") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(unless_stopped(async {
        let mut archive = Archive::open(&sqlite_options(&loaded.config)).await?;
        let bar = Bar::bytes(Some(archive.stats().await?.file_bytes));
        let partial = Partial::new(path)?;
        let result = archive.backup(partial.path(), |written, _| bar.at(written, "")).await;
        bar.done();
        result.with_context(|| format!("cannot back up to {}", path.display()))?;
        partial.finish()?;
        println!("backed up to {} in {:.1} s", path.display(), bar.seconds());
        Ok(ExitCode::SUCCESS)
    }))
}
