//! `relay migrate`: the schema brought up to date, and nothing else.

use crate::app::Opened;
use crate::config::{Sources, load};
use crate::task::Tasks;
use clap::Command;
use std::process::ExitCode;

pub(super) fn command() -> Command {
    Command::new("migrate").about("Bring the database's schema up to date").long_about(
        "Bring the database's schema up to date and end. Every command that opens the database does so first; this one \
         is for doing it before the instances of a cluster are replaced one by one. Only one at a time does it, the \
         others wait. Old instances may go on meanwhile.",
    )
}

pub(super) fn run(sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        Opened::open(&loaded.config, Tasks::detached()).await?.store().close().await;
        println!("the schema is up to date");
        Ok(ExitCode::SUCCESS)
    })
}
