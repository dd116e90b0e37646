//! How long a file and a comment line may be, and how many files a folder holds.

use crate::source::{Source, files, sources};
use std::collections::BTreeMap;

const MAX_LINES: usize = 400;
const MAX_COMMENT_COLUMNS: usize = 120;
const MAX_FILES_IN_A_FOLDER: usize = 16;

/// Folders that hold more files, and why.
const LARGE_FOLDERS: &[(&str, &str)] = &[
    ("relay/src/cli", "one file for each subcommand"),
    ("relay/src/config", "one file for each section of the configuration"),
    ("loadtest/src/load", "becomes folders in this month's rework"),
];

/// Where comment lines may be longer, and why.
const LONG_COMMENTS: &[(&str, &str)] =
    &[("migrations/", "a database keeps each migration's checksum, comments included: the files cannot change")];

fn too_long(sources: &[Source]) -> Vec<String> {
    let lines = |source: &Source| source.text.lines().count();
    let long = sources.iter().filter(|source| lines(source) > MAX_LINES);
    long.map(|source| format!("{}: {} lines, {MAX_LINES} are allowed", source.path, lines(source))).collect()
}

/// Comment lines of Rust, SQL and Lua beyond the columns.
fn too_wide(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let begins = if source.path.ends_with(".rs") { "//" } else { "--" };
        for (number, line) in (1..).zip(source.text.lines()) {
            if line.trim_start().starts_with(begins) && line.chars().count() > MAX_COMMENT_COLUMNS {
                faults.push(format!("{}:{number}: a comment beyond {MAX_COMMENT_COLUMNS} columns", source.path));
            }
        }
    }
    faults
}

fn too_flat(sources: &[Source]) -> Vec<String> {
    let mut folders = BTreeMap::<&str, usize>::new();
    for source in sources {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        *folders.entry(folder).or_default() += 1;
    }
    let large = folders.iter().filter(|(_, files)| **files > MAX_FILES_IN_A_FOLDER);
    large.map(|(folder, files)| format!("{folder}: {files} files, {MAX_FILES_IN_A_FOLDER} are allowed")).collect()
}

#[test]
fn files_are_short() {
    assert_eq!(too_long(&sources()), Vec::<String>::new());
}

#[test]
fn comment_lines_are_short() {
    let mut sources = files(&["rs", "sql", "lua"]);
    sources.retain(|source| !LONG_COMMENTS.iter().any(|(path, _)| source.path.starts_with(path)));
    assert_eq!(too_wide(&sources), Vec::<String>::new());
}

#[test]
fn folders_are_small() {
    let mut faults = too_flat(&sources());
    faults.retain(|fault| !LARGE_FOLDERS.iter().any(|(folder, _)| fault.starts_with(&format!("{folder}:"))));
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn control_what_is_too_large_is_found() {
    assert_eq!(too_long(&[Source::new("loadtest/src/main.rs", &"\n".repeat(401))]).len(), 1);
    assert_eq!(too_long(&[Source::new("loadtest/src/main.rs", &"\n".repeat(400))]).len(), 0);
    for (path, begins) in [("a.rs", "    /// "), ("a.rs", "//! "), ("a.sql", "-- "), ("a.lua", "-- ")] {
        let comment = |columns: usize| format!("{begins}{}", "é".repeat(columns - begins.len()));
        assert_eq!(too_wide(&[Source::new(path, &comment(121))]).len(), 1, "{path}");
        assert_eq!(too_wide(&[Source::new(path, &comment(120))]).len(), 0, "{path}");
    }
    let code = format!("let text = \"{}\"; // short", "x".repeat(130));
    assert_eq!(too_wide(&[Source::new("a.rs", &code)]).len(), 0, "rustfmt judges code");
    let folder = |files: usize| (0..files).map(|n| Source::new(&format!("a/b/{n}.rs"), "")).collect::<Vec<_>>();
    assert_eq!((too_flat(&folder(17)).len(), too_flat(&folder(16)).len()), (1, 0));
    let mut deeper = folder(16);
    deeper.push(Source::new("a/b/c/d.rs", ""));
    assert_eq!(too_flat(&deeper).len(), 0, "a folder of its own");
}
