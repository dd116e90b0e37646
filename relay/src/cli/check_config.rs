//! `relay check-config`: what is in force and where it came from.

use crate::config::{Effective, Origin, Sources, load};
use crate::tls::TlsService;
use clap::Command;
use std::io::Write;
use std::process::ExitCode;

pub(super) fn command() -> Command {
    Command::new("check-config").about(
        "Check the settings and the files of certificates; print the settings without secrets, and where each that is \
         not a default came from",
    )
}

pub(super) fn run(sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources)?;
    TlsService::check_files(&loaded.config.tls, &loaded.config.public_url)?;
    let text: String = loaded.settings.iter().map(line).collect();
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn line(setting: &Effective) -> String {
    match &setting.origin {
        Origin::Default => format!("{setting}\n"),
        origin => format!("{setting}  # from {origin}\n"),
    }
}
