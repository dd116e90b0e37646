//! Holds the rules of the layout by reading the sources:
//!
//! 1. a module imports only from stations further down its journey, or from leaves;
//! 2. the way back to a client is an outbox, never an import: only `connection` speaks WebSocket, and nothing that a
//!    connection calls imports it;
//! 3. files stay short enough to be read in one sitting;
//! 4. metrics are named in the catalogue alone, and every setting that a source names exists.
//!
//! Each rule is also shown synthetic sources that break it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The stations in the order of travel.
const JOURNEY: &[&str] = &[
    "main",
    "cli",
    "transfer",
    "app",
    "admin",
    "connection",
    "message",
    "ingest",
    "query",
    "policy",
    "verify",
    "log",
    "cache",
    "matcher",
    "store",
];
/// Modules that every station may import; among themselves, each only those before it.
const LEAVES: &[&str] = &["types", "outbox", "config", "telemetry", "link"];
const MAX_LINES: usize = 400;

struct Source {
    /// Relative to the workspace, with forward slashes.
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The top-level module of the library that this file belongs to.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("relay/src/")?;
        let module = inside.split('/').next()?;
        Some(module.strip_suffix(".rs").unwrap_or(module)).filter(|module| *module != "lib")
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources() -> Vec<Source> {
    let root = workspace();
    let mut waiting = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                waiting.push(path);
            } else if name.ends_with(".rs") {
                let relative = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path: relative, text: std::fs::read_to_string(&path).unwrap() });
            }
        }
    }
    found
}

/// The code without its comments, and the texts in it without theirs. Good enough for code that `rustfmt` has seen.
fn code(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut in_text = false;
        let mut previous = ' ';
        let end = line.char_indices().find(|&(at, character)| {
            if character == '"' && previous != '\\' && previous != '\'' {
                in_text = !in_text;
            }
            previous = if previous == '\\' { ' ' } else { character };
            !in_text && line[at..].starts_with("//")
        });
        out.push_str(&line[..end.map_or(line.len(), |(at, _)| at)]);
        out.push('\n');
    }
    out
}

/// The top-level modules that a source names, by `crate::`, `relay::` or `super::`.
fn imports(source: &Source) -> BTreeSet<String> {
    let code = code(&source.text);
    let known: Vec<_> = JOURNEY.iter().chain(LEAVES).collect();
    let mut found = BTreeSet::new();
    for prefix in ["crate::", "relay::", "super::super::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
                continue;
            }
            found.extend(first_names(&code[at + prefix.len()..]));
        }
    }
    found.retain(|name| known.contains(&&name.as_str()));
    found
}

/// The first name of a path, or of every path in braces: `{a::X, b::{Y, Z}}` gives a and b.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(braced) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut depth = 0_usize;
    let mut names = vec![name(braced.trim_start())];
    for (at, character) in braced.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(braced[at + 1..].trim_start())),
            _ => {}
        }
    }
    names
}

fn place(list: &[&str], module: &str) -> Option<usize> {
    list.iter().position(|known| *known == module)
}

fn may_import(from: &str, to: &str) -> bool {
    match (place(JOURNEY, from), place(LEAVES, from)) {
        _ if from == to => true,
        (Some(here), _) => place(LEAVES, to).is_some() || place(JOURNEY, to).is_some_and(|there| there > here),
        (_, Some(here)) => place(LEAVES, to).is_some_and(|there| there < here),
        _ => false,
    }
}

fn against_the_journey(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let Some(module) = source.module() else { continue };
        if place(JOURNEY, module).is_none() && place(LEAVES, module).is_none() {
            faults.push(format!("{}: `{module}` is neither a station nor a leaf: give it a place", source.path));
        }
        for import in imports(source).iter().filter(|import| !may_import(module, import)) {
            faults.push(format!("{}: `{module}` must not import `{import}`", source.path));
        }
    }
    faults
}

fn around_the_outbox(sources: &[Source]) -> Vec<String> {
    let speaks = |source: &&Source| code(&source.text).contains("tokio_tungstenite");
    let outside = |source: &&Source| source.module().is_some_and(|module| module != "connection");
    let fault = |source: &Source| format!("{}: only `connection` speaks WebSocket", source.path);
    sources.iter().filter(outside).filter(speaks).map(fault).collect()
}

fn too_long(sources: &[Source]) -> Vec<String> {
    let lines = |source: &Source| source.text.lines().count();
    let long = sources.iter().filter(|source| lines(source) > MAX_LINES);
    long.map(|source| format!("{}: {} lines, {MAX_LINES} are allowed", source.path, lines(source))).collect()
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
fn imports_follow_the_journey() {
    assert_eq!(against_the_journey(&sources()), Vec::<String>::new());
}

#[test]
fn the_way_back_to_a_client_is_an_outbox() {
    assert_eq!(around_the_outbox(&sources()), Vec::<String>::new());
}

#[test]
fn files_are_short() {
    assert_eq!(too_long(&sources()), Vec::<String>::new());
}

#[test]
fn settings_and_metrics_are_the_documented_ones() {
    assert_eq!(unknown_names(&sources()), Vec::<String>::new());
}

#[test]
fn control_the_real_sources_are_read() {
    let sources = sources();
    assert!(sources.len() > 20);
    let cli = sources.iter().find(|source| source.path == "relay/src/cli/serve.rs").unwrap();
    assert_eq!(imports(cli), ["app", "config", "telemetry"].map(str::to_owned).into());
}

#[test]
fn control_a_wrong_import_is_found() {
    for (path, text, wrong) in [
        ("relay/src/store/mod.rs", "use crate::query::Planner;", "query"),
        ("relay/src/query/plan.rs", "use crate::{store::Store, message::Words};", "message"),
        ("relay/src/query/plan.rs", "fn f() { crate::ingest::run() }", "ingest"),
        ("relay/src/log/ring.rs", "use super::super::connection::Session;", "connection"),
        ("relay/src/types/id.rs", "use crate::outbox::Outbox;", "outbox"),
        ("relay/src/config/mod.rs", "use crate::store::Store;", "store"),
        ("relay/src/connection/mod.rs", "use crate::{types::{Kind, Row}, app};", "app"),
        ("relay/src/attic.rs", "", "attic"),
    ] {
        let faults = against_the_journey(&[Source::new(path, text)]);
        assert_eq!(faults.len(), 1, "{path}: {text}: {faults:?}");
        assert!(faults[0].contains(&format!("`{wrong}`")), "{faults:?}");
    }
    for (path, text) in [
        ("relay/src/query/plan.rs", "use crate::{store::{Store, Page}, types, log::Ring};"),
        ("relay/src/store/mod.rs", "// crate::query is above\nuse crate::types::Row; // not crate::app"),
        ("relay/src/store/mod.rs", "const A: &str = \"//\"; use crate::telemetry::Metrics;"),
        ("relay/src/log/ring.rs", "use my_crate::query::X;"),
    ] {
        assert_eq!(against_the_journey(&[Source::new(path, text)]), Vec::<String>::new(), "{text}");
    }
    let hidden = Source::new("relay/src/store/mod.rs", "const A: &str = \"//\"; use crate::query::X;");
    assert_eq!(against_the_journey(&[hidden]).len(), 1, "a text is no comment");
}

#[test]
fn control_the_other_rules_find_what_breaks_them() {
    let socket = Source::new("relay/src/matcher/mod.rs", "use tokio_tungstenite::WebSocketStream;");
    assert_eq!(around_the_outbox(&[socket]).len(), 1);
    assert_eq!(too_long(&[Source::new("loadtest/src/main.rs", &"\n".repeat(401))]).len(), 1);
    assert_eq!(too_long(&[Source::new("loadtest/src/main.rs", &"\n".repeat(400))]).len(), 0);
    let metric = Source::new("relay/src/log/mod.rs", "counter!(\"nostr_secret_total\");");
    assert_eq!(unknown_names(&[metric]).len(), 1);
    let variable = Source::new("relay/src/log/mod.rs", "var(\"RELAY_SECRET\"); var(\"RELAY_LISTEN\")");
    assert_eq!(unknown_names(&[variable]).len(), 1);
}
