//! `relay delete`: removes the events that a filter selects.

use super::filter_argument;
use super::progress::Bar;
use crate::app::Opened;
use crate::config::{Sources, load};
use crate::transfer::delete;
use crate::types::{Access, Filter, Position, PrivateKinds};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::process::ExitCode;

pub(super) fn command() -> Command {
    Command::new("delete")
        .about("Remove the events that a filter selects")
        .long_about(
            "Remove the events that a filter selects, for good. The relay on a SQLite database must be stopped; \
             those on PostgreSQL may run. No deletion is put on record: a client may send the events in again unless the access lists refuse them.",
        )
        .arg(filter_argument().required(true))
        .arg(
            Arg::new("yes")
                .long("yes")
                .action(ArgAction::SetTrue)
                .help("Really delete; without it the events are only counted"),
        )
}

pub(super) fn run(arguments: &ArgMatches, sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources)?;
    let Some(filter) = arguments.get_one::<Filter>("filter") else { anyhow::bail!("--filter is missing") };
    anyhow::ensure!(filter.limit.is_none(), "a limit says which events come first, not which to delete: leave it out");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Opened::open_for_operator(&loaded.config).await?.store();
        if arguments.get_flag("yes") {
            // The total is not counted first: counting may take longer than removing.
            let bar = Bar::items(None);
            let removed = delete(&*store, filter, |removed| bar.at(removed, "removed")).await;
            bar.done();
            store.close().await;
            println!("{} events removed", removed?);
        } else {
            let all = Access { private_kinds: PrivateKinds::new(Vec::new()), ..Access::default() };
            // Expired events that were not swept yet are removed too, but not counted here.
            let filters = std::slice::from_ref(filter);
            let counted = store.count(filters, &all, Position::default(), crate::types::now()).await;
            store.close().await;
            println!("{} events match; nothing was removed: add --yes to remove them", counted?.number);
        }
        Ok(ExitCode::SUCCESS)
    })
}
