//! Compares the documents with the program: the commands in them, and the files, settings, metrics and tests that they
//! name. Each rule is also tested with a page that breaks it.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

mod commands;
mod names;

use commands::{Page, Program, page, pages, typed};
use relay::message::SUPPORTED_NIPS;
use std::collections::BTreeSet;

fn relay() -> Program {
    Program::new("relay", env!("CARGO_BIN_EXE_relay"))
}

#[test]
fn commands_of_the_relay_are_there() {
    let (count, faults) = relay().check(&typed(&pages()));
    assert_eq!(faults, Vec::<String>::new());
    assert!(count > 20, "only {count} commands were found");
}

#[test]
fn control_a_command_or_a_flag_that_is_not_there_is_found() {
    for text in [
        "    relay imports events.jsonl\n",
        "Type `RELAY_LISTEN=x relay --lisen 1`.\n",
        "```sh\nsudo target/release/relay export x --filters '{}' | head\n```\n",
        "1. Do:\n\n   ```sh\n   cd x && cargo run --release -p relay -- backup --fast y\n   ```\n",
        "A span `relay\nimport --verified` over two lines.\n",
    ] {
        let (count, faults) = relay().check(&typed(&[page(text)]));
        assert_eq!((count, faults.len()), (1, 1), "{text}: {faults:?}");
    }
    let good = "    RELAY_LISTEN=x relay import --no-verify a.jsonl  # --nothing\n\n`relay --listen=1`, `relay check-config`\n";
    assert_eq!(relay().check(&typed(&[page(good)])), (3, Vec::new()));
}

#[test]
fn what_documents_name_is_there() {
    assert_eq!(names::faults(&pages()), Vec::<String>::new());
}

#[test]
fn control_a_name_that_is_not_there_is_found() {
    for (text, fault) in [
        ("[the log](docs/nothing.md)", "docs/nothing.md"),
        ("[the log](docs/metrics.md#nothing)", "#nothing"),
        ("in `relay/tests/nothing`", "relay/tests/nothing"),
        ("set `limits.max_nothing`", "limits.max_nothing"),
        ("set `RELAY_LIMITS_MAX_NOTHING=1`", "RELAY_LIMITS_MAX_NOTHING"),
        ("look at `nostr_nothing_total{reason=\"x\"}`", "nostr_nothing_total"),
        ("| test | `nothing_is_tested_by_this_name` |", "nothing_is_tested_by_this_name"),
        ("    make nothing", "make nothing"),
        ("`cargo run -p haproxy -- plan`", "cargo run -p haproxy"),
    ] {
        let faults = names::faults(&[page(text)]);
        assert!(faults.len() == 1 && faults[0].contains(fault), "{text}: {faults:?}");
    }

    let good =
        "[the log](docs/metrics.md#app), `limits.max_filters`, `RELAY_LISTEN_FILE`, `nostr_ready`, `make test`\n";
    assert_eq!(names::faults(&[page(good)]), Vec::<String>::new());
}

/// The numbers of two digits in a text.
fn nip_numbers(text: &str) -> BTreeSet<u16> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() == 2).map(|n| n.parse().unwrap()).collect()
}

#[test]
fn pages_name_the_nips_that_the_relay_supports() {
    let supported: BTreeSet<_> = SUPPORTED_NIPS.iter().map(|(number, _)| *number).collect();
    let pages = pages();
    let text = |path: &str| &pages.iter().find(|page| page.path == path).unwrap().text;
    for path in ["README.md", "CHANGELOG.md"] {
        let line = text(path).lines().find(|line| line.contains("NIP-01, 09")).unwrap();
        assert_eq!(nip_numbers(line), supported, "{path}");
    }
    assert_eq!(nip_numbers("NIP-01, 09 and 11; `hll` 256"), BTreeSet::from([1, 9, 11]), "control");
}

#[test]
fn the_first_page_is_short() {
    let words = |page: &Page| page.text.split_whitespace().count();
    let pages = pages();
    let readme = pages.iter().find(|page| page.path == "README.md").unwrap();
    assert!((100..=600).contains(&words(readme)), "README.md has {} words, 600 are allowed", words(readme));
}
