//! `relay settings`: every setting, as a page.

use crate::config::reference;
use clap::Command;
use std::io::Write;
use std::process::ExitCode;

pub(super) fn command() -> Command {
    Command::new("settings").about("Print every setting with its default and effect, in Markdown")
}

pub(super) fn run() -> ExitCode {
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().lock().write_all(reference().as_bytes());
    ExitCode::SUCCESS
}
