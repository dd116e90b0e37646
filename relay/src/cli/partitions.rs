//! `relay partitions`: what partitions the PostgreSQL store has.

use crate::config::{Sources, load};
use crate::store::postgres::{Partition, ServerInspector};
use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::process::ExitCode;

pub(super) fn command() -> Command {
    Command::new("partitions")
        .about("List the partitions of a PostgreSQL store: days, rows, sizes")
        .long_about(
            "List the partitions of a PostgreSQL store: the days that each has, how many rows by the server's estimate, \
             and its size with indexes. The first server in database.urls is asked.",
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print a JSON array instead of a table"))
}

pub(super) fn run(arguments: &ArgMatches, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = load(sources)?.config;
    anyhow::ensure!(config.database.is_postgres(), "a SQLite store has no partitions");
    let url = config.database.urls.first().context("database.urls is empty")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut inspector =
            ServerInspector::connect(url).await.with_context(|| format!("cannot ask the server at {url}"))?;
        let partitions = inspector.partitions().await?;
        if arguments.get_flag("json") {
            println!("{}", serde_json::to_string_pretty(&partitions)?);
        } else {
            print!("{}", table(&partitions));
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn table(partitions: &[Partition]) -> String {
    let mut table = format!("{:26} {:10} {:10} {:>14} {:>14}\n", "partition", "from", "to", "rows", "KiB");
    for partition in partitions {
        let day = |day: &Option<String>| day.clone().unwrap_or_else(|| "-".into());
        let rows = partition.rows.map_or_else(|| "?".into(), |rows| rows.to_string());
        let (from, to, size) = (day(&partition.from), day(&partition.to), partition.bytes.div_ceil(1024));
        table += &format!("{:26} {from:10} {to:10} {rows:>14} {size:>14}\n", partition.name);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_shown_as_such() {
        let partition = |name: &str, from: Option<&str>, rows| Partition {
            table: "log".into(),
            name: name.into(),
            from: from.map(Into::into),
            to: from.map(|_| "2026-02-01".into()),
            rows,
            bytes: 1_025,
        };
        let text =
            table(&[partition("log_2026_01_31", Some("2026-01-31"), Some(7)), partition("log_default", None, None)]);
        let words: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["log_2026_01_31", "2026-01-31", "2026-02-01", "7", "2"]);
        assert_eq!(words[1], ["log_default", "-", "-", "?", "2"]);
    }
}
