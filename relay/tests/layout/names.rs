//! Each name is defined once: a type in its crate, a metric in the catalogue, a setting in the configuration.

use crate::source::{Source, code, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Type names that several modules of a crate may define, each its own.
const COMMON: &[(&str, &str)] = &[
    ("Error", "each module's own error, named with its module: `deploy::Error`"),
    ("Settings", "each module's own settings"),
    ("Args", "each command's own arguments"),
    ("Options", "each store's own, and those of the load generator: `postgres::Options`"),
    ("Admin", "a section of the configuration, named after the part that it configures"),
    ("Cache", "a section of the configuration"),
    ("Database", "a section of the configuration"),
    ("Log", "a section of the configuration"),
    ("Workers", "a section of the configuration"),
];

/// The crate that a source is compiled into. Each integration test is a crate; the model is part of the library's
/// own tests.
fn crate_of(path: &str) -> Option<String> {
    let mut parts = path.split('/');
    let package = parts.next()?;
    match (parts.next()?, parts.next()?) {
        ("src", _) | ("tests", "model") => Some(package.to_owned()),
        ("tests" | "benches" | "examples", target) => Some(format!("{package}/tests/{target}")),
        _ => None,
    }
}

/// The name that a line defines a type of, if it does. An indented `type` belongs to a trait.
fn type_name(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let code = code.strip_prefix("pub").map_or(code, |rest| match rest.split_once(") ") {
        Some((scope, rest)) if scope.starts_with('(') => rest,
        _ => rest,
    });
    let (keyword, rest) = code.trim_start().split_once(' ')?;
    let associated = keyword == "type" && line.starts_with(char::is_whitespace);
    let defines = ["struct", "enum", "trait", "union", "type"].contains(&keyword) && !associated;
    let name = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
    Some(name).filter(|name| defines && !name.is_empty())
}

fn defined_twice(sources: &[Source]) -> Vec<(String, String, Vec<&str>)> {
    let mut places = BTreeMap::<(String, String), Vec<&str>>::new();
    for source in sources {
        let Some(of) = crate_of(&source.path) else { continue };
        let code = code(&source.text);
        for name in code.lines().filter_map(type_name) {
            places.entry((of.clone(), name.to_owned())).or_default().push(&source.path);
        }
    }
    let twice = places.into_iter().filter(|(_, paths)| paths.len() > 1);
    let twice = twice.filter(|((_, name), _)| !COMMON.iter().any(|(common, _)| common == name));
    twice.map(|((of, name), paths)| (of, name, paths)).collect()
}

/// Words in `text` that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(move |c| !part(c)).filter(move |word| word.starts_with(prefix) && word.len() > prefix.len())
}

fn unknown_names(sources: &[Source]) -> Vec<String> {
    let document = relay::config::Document::embedded();
    let mut variables =
        BTreeSet::from(["RELAY_CONFIG", "RELAY_LOG", "RELAY_SECTION_KEY", "RELAY_SECTION_KEY_FILE"].map(str::to_owned));
    variables.extend(document.settings().flat_map(|setting| [setting.variable(), setting.variable() + "_FILE"]));
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.module().is_some() && !source.path.ends_with("tests.rs")) {
        let code = code(&source.text);
        let code = code.split("#[cfg(test)]").next().unwrap();
        if !source.path.ends_with("telemetry/catalogue.rs") {
            let named = words(code, "nostr_").filter(|word| code.contains(&format!("\"{word}\"")));
            faults.extend(named.map(|name| format!("{}: {name} is not in the catalogue", source.path)));
        }
        let unknown = words(code, "RELAY_").filter(|word| !variables.contains(*word));
        faults.extend(unknown.map(|name| format!("{}: {name} is no setting", source.path)));
    }
    faults
}

#[test]
fn a_type_name_is_defined_once_a_crate() {
    assert_eq!(defined_twice(&sources()), Vec::new());
}

#[test]
fn settings_and_metrics_are_the_documented_ones() {
    assert_eq!(unknown_names(&sources()), Vec::<String>::new());
}

#[test]
fn control_a_second_definition_is_found() {
    let twice = |first: (&str, &str), second: (&str, &str)| {
        let sources = [Source::new(first.0, first.1), Source::new(second.0, second.1)];
        defined_twice(&sources).len()
    };
    let first = ("relay/src/log/ring.rs", "pub(crate) struct Answer<T> {");
    for (path, text) in [
        ("relay/src/store/mod.rs", "enum Answer {"),
        ("relay/src/store/mod.rs", "mod tests {\n    pub struct Answer;"),
        ("relay/src/store/mod.rs", "pub(in crate::store) trait Answer {"),
        ("relay/src/store/mod.rs", "type Answer = u8;"),
        ("relay/tests/model/mod.rs", "struct Answer(u8);"),
    ] {
        assert_eq!(twice(first, (path, text)), 1, "{path}: {text}");
    }

    for (path, text) in [
        ("relay/src/store/mod.rs", "// struct Answer"),
        ("relay/src/store/mod.rs", "    type Answer = u8;"),
        ("relay/src/store/mod.rs", "struct Answers;"),
        ("relay/tests/cluster/main.rs", "struct Answer;"),
        ("deploy/src/lib.rs", "struct Answer;"),
    ] {
        assert_eq!(twice(first, (path, text)), 0, "{path}: {text}");
    }
    assert_eq!(twice(("relay/src/a.rs", "enum Error {"), ("relay/src/b.rs", "enum Error {")), 0, "a common name");
}

#[test]
fn control_unknown_metrics_and_settings_are_found() {
    let metric = Source::new("relay/src/log/mod.rs", "counter!(\"nostr_secret_total\");");
    assert_eq!(unknown_names(&[metric]).len(), 1);
    let variable = Source::new("relay/src/log/mod.rs", "var(\"RELAY_SECRET\"); var(\"RELAY_LISTEN\")");
    assert_eq!(unknown_names(&[variable]).len(), 1);
}
