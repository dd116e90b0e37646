//! A report's files.

use super::Report;
use std::io;
use std::path::Path;

/// Writes report.json into `directory`.
///
/// # Errors
/// The files'.
pub fn write_all(report: &Report, directory: &Path) -> io::Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(directory.join("report.json"), json + "\n")
}
