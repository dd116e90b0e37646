//! Checks the `deploy` commands in README.md and docs.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../../relay/tests/documents/commands.rs"]
mod commands;

use commands::{Program, page, pages, typed};

fn program() -> Program {
    Program::new("deploy", env!("CARGO_BIN_EXE_deploy"))
}

#[test]
fn commands_are_there() {
    let (count, faults) = program().check(&typed(&pages()));
    assert_eq!(faults, Vec::<String>::new());
    assert!(count > 20, "only {count} commands were found");
}

#[test]
fn control_a_command_or_a_flag_that_is_not_there_is_found() {
    for text in ["    deploy plot --connections 5\n", "`deploy plan --connection-count 5`"] {
        let (count, faults) = program().check(&typed(&[page(text)]));
        assert_eq!((count, faults.len()), (1, 1), "{text}: {faults:?}");
    }
}
