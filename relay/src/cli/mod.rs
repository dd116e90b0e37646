//! The command line. One file a command; a new one gets a line in `command` and one in `run`.

mod backup;
mod check_config;
mod delete;
mod explain;
mod export;
mod flags;
mod import;
mod metrics;
mod migrate;
mod partial;
mod partitions;
mod profile;
mod progress;
mod serve;
mod settings;
mod vanish;

use crate::config::{Document, Problems, Sources};
use crate::types::Filter;
use clap::{Arg, ArgMatches, Command};
use std::process::ExitCode;

/// The exit code where the command line or the settings are wrong.
const EXIT_SETTINGS: u8 = 2;

/// Runs the program with this process's command line and environment. Exit codes: 0 for success, 1 for a failure, 2
/// where the command line or the settings are wrong.
pub fn main() -> ExitCode {
    let document = Document::embedded();
    let matches = command(&document).get_matches();
    let (name, matches) = matches.subcommand().unwrap_or(("serve", &matches));
    let (file, flags) = flags::read(&document, matches);
    run(name, matches, Sources::of_process(file, flags)).unwrap_or_else(|error| {
        eprintln!("relay: {error:#}");
        let wrong_settings = error.downcast_ref::<Problems>().is_some();
        if wrong_settings { ExitCode::from(EXIT_SETTINGS) } else { ExitCode::FAILURE }
    })
}

fn command(document: &Document) -> Command {
    Command::new("relay")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Skein, a Nostr relay. Without a command it serves.")
        .after_help("relay.example.toml documents every setting, its default and its effect; -h is short, --help full.")
        .args(flags::arguments(document))
        .subcommand(serve::command())
        .subcommand(check_config::command())
        .subcommand(import::command())
        .subcommand(export::command())
        .subcommand(backup::command())
        .subcommand(delete::command())
        .subcommand(vanish::command())
        .subcommand(vanish::proof_command())
        .subcommand(migrate::command())
        .subcommand(explain::command())
        .subcommand(partitions::command())
        .subcommand(metrics::command())
        .subcommand(settings::command())
        .subcommand(profile::command())
        .disable_help_subcommand(true)
}

fn run(name: &str, arguments: &ArgMatches, sources: Sources) -> anyhow::Result<ExitCode> {
    match name {
        "check-config" => check_config::run(&sources),
        "import" => import::run(arguments, &sources),
        "export" => export::run(arguments, &sources),
        "backup" => backup::run(arguments, &sources),
        "delete" => delete::run(arguments, &sources),
        "vanish" => vanish::run(arguments, &sources),
        "vanished" => vanish::prove(arguments, &sources),
        "migrate" => migrate::run(&sources),
        "explain" => explain::run(arguments, &sources),
        "partitions" => partitions::run(arguments, &sources),
        "metrics" => metrics::run(),
        "settings" => Ok(settings::run()),
        "profile" => profile::run(arguments),
        _ => serve::run(arguments, sources),
    }
}

/// `--filter`, for the commands that work on a part of the events.
fn filter_argument() -> Arg {
    let parse =
        |text: &str| Filter::parse(text).map_err(|error| format!("{error}; write it as in a REQ: {{\"kinds\":[1]}}"));
    Arg::new("filter").long("filter").value_name("JSON").value_parser(parse).help("Only these events: a NIP-01 filter")
}

/// `--config`, which every command knows.
fn config_argument() -> Arg {
    Arg::new("config")
        .long("config")
        .short('c')
        .value_name("PATH")
        .help("The configuration file, in TOML [env: RELAY_CONFIG]")
        .value_parser(clap::value_parser!(std::path::PathBuf))
        .global(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    type ReadFlags = (Option<std::path::PathBuf>, Vec<(String, String)>);

    fn parse(arguments: &[&str]) -> Result<ReadFlags, clap::Error> {
        let document = Document::embedded();
        let matches = command(&document).try_get_matches_from([&["relay"], arguments].concat())?;
        let matches = matches.subcommand().map_or(&matches, |(_, matches)| matches);
        Ok(flags::read(&document, matches))
    }

    #[test]
    fn the_command_is_well_formed() {
        command(&Document::embedded()).debug_assert();
    }

    #[test]
    fn flags_may_stand_before_and_after_the_command() {
        let wanted = vec![("listen".to_owned(), "127.0.0.1:1".to_owned())];
        for arguments in [
            &["--listen", "127.0.0.1:1"][..],
            &["serve", "--listen", "127.0.0.1:1"],
            &["--listen", "127.0.0.1:1", "check-config"],
        ] {
            assert_eq!(parse(arguments).unwrap(), (None, wanted.clone()), "{arguments:?}");
        }
        assert_eq!(parse(&["check-config", "-c", "x.toml"]).unwrap().0, Some("x.toml".into()));
    }

    #[test]
    fn a_switch_needs_no_value() {
        for (argument, value) in [("--access-auth-to-read", "true"), ("--access-auth-to-read=false", "false")] {
            let flags = parse(&[argument, "serve"]).unwrap().1;
            assert_eq!(flags, [("access.auth_to_read".to_owned(), value.to_owned())]);
        }
        assert!(parse(&["--lisen", "x"]).unwrap_err().to_string().contains("--listen"));
    }

    #[test]
    fn help_is_grouped_by_section_and_tells_defaults_and_variables() {
        let long = command(&Document::embedded()).render_long_help().to_string();
        for text in [
            "[limits] What one client may ask for",
            "--limits-max-filters <NUMBER>",
            "[default: 10]",
            "[env: RELAY_LIMITS_MAX_FILTERS]",
            "--config <PATH>",
        ] {
            assert!(long.contains(text), "{text} in:\n{long}");
        }
        assert!(command(&Document::embedded()).render_help().to_string().len() < long.len());
    }
}
