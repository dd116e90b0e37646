//! Checks the `loadtest` commands in README.md and docs.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../../relay/tests/documents/commands.rs"]
mod commands;

use commands::{Program, page, pages, typed};

fn program() -> Program {
    Program::new("loadtest", env!("CARGO_BIN_EXE_loadtest"))
}

#[test]
fn commands_are_there() {
    let (count, faults) = program().check(&typed(&pages()));
    assert_eq!(faults, Vec::<String>::new());
    assert!(count > 3, "only {count} commands were found");
}

#[test]
fn control_a_command_or_a_flag_that_is_not_there_is_found() {
    for text in ["    loadtest bunch\n", "`loadtest --uri ws://127.0.0.1:7777 --rate 1`"] {
        let (count, faults) = program().check(&typed(&[page(text)]));
        assert_eq!((count, faults.len()), (1, 1), "{text}: {faults:?}");
    }
}
