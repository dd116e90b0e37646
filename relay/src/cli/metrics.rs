//! `relay metrics`: what can be measured, as a page.

use crate::telemetry::document;
use clap::Command;
use std::process::ExitCode;

pub(super) fn command() -> Command {
    Command::new("metrics").about("Print every metric with its type, unit, labels and meaning, in Markdown")
}

pub(super) fn run() -> anyhow::Result<ExitCode> {
    print!("{}", document()?);
    Ok(ExitCode::SUCCESS)
}
