//! One flag for every setting, made from `relay.example.toml`.

use super::config_argument;
use crate::config::{Document, Section, Setting};
use clap::{Arg, ArgAction, ArgMatches};
use std::path::PathBuf;
use toml::Value;

/// `--config` and the flags of all settings, grouped by section.
pub(super) fn arguments(document: &Document) -> Vec<Arg> {
    let settings = document.sections.iter().flat_map(|section| {
        let heading = heading(section);
        section.settings.iter().map(move |setting| argument(setting).help_heading(heading.clone()))
    });
    std::iter::once(config_argument()).chain(settings).collect()
}

/// What of that was given: the configuration file, and `(section.key, text)`.
pub(super) fn read(document: &Document, matches: &ArgMatches) -> (Option<PathBuf>, Vec<(String, String)>) {
    let given = |setting: &Setting| Some((setting.key.clone(), matches.get_one::<String>(&setting.key)?.clone()));
    (matches.get_one("config").cloned(), document.settings().filter_map(given).collect())
}

fn heading(section: &Section) -> String {
    match section.name.as_str() {
        "" => section.doc.clone(),
        name => format!("[{name}] {}", first_sentence(&section.doc)),
    }
}

fn argument(setting: &Setting) -> Arg {
    let default = match &setting.default {
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        value => plain(value),
    };
    let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
    let argument = Arg::new(setting.key.clone())
        .long(setting.flag())
        .help(format!("{}{default}", first_sentence(&setting.doc)))
        .long_help(format!("{}{default} [env: {}]", setting.doc, setting.variable()))
        .action(ArgAction::Set)
        .global(true);
    match &setting.default {
        Value::Boolean(_) => {
            argument.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Value::Integer(_) => argument.value_name("NUMBER"),
        Value::Array(_) => argument.value_name("LIST"),
        _ => argument.value_name("TEXT"),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn first_sentence(doc: &str) -> &str {
    doc.split_once(". ").map_or(doc, |(first, _)| first).trim_end_matches('.')
}
