//! Who may import whom, and who may speak to a client.

use crate::source::{Source, code, sources};
use std::collections::BTreeSet;

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
const LEAVES: &[&str] = &["types", "memory", "outbox", "config", "telemetry", "task", "link", "tls"];

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

#[test]
fn imports_follow_the_journey() {
    assert_eq!(against_the_journey(&sources()), Vec::<String>::new());
}

#[test]
fn the_way_back_to_a_client_is_an_outbox() {
    assert_eq!(around_the_outbox(&sources()), Vec::<String>::new());
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
fn control_another_way_back_to_a_client_is_found() {
    let socket = Source::new("relay/src/matcher/mod.rs", "use tokio_tungstenite::WebSocketStream;");
    assert_eq!(around_the_outbox(&[socket]).len(), 1);
}
