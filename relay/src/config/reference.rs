//! Writes the settings as a page of documentation, `docs/configuration.md`.

use super::document::{Document, NEEDS_RESTART, Section, Setting};
use std::fmt::Write;

const HEAD: &str = "# Configuration

Every setting of the relay. Written by `relay settings` from [relay.example.toml](../relay.example.toml), which is where
the program reads its defaults; a test holds this page against it.

A setting `section.key` can be given in four places; a later one wins over an earlier one:

1. the default;
2. the file named by `--config PATH` or `RELAY_CONFIG`;
3. the environment, as `RELAY_SECTION_KEY`;
4. the command line, as `--section-key`.

`RELAY_SECTION_KEY_FILE` names a file that holds the value, for secrets. A list is written with commas in the environment
and on the command line. `relay check-config` shows what is in force and where it came from. SIGHUP reads all sources
again: settings with \"reload\" then change, settings with \"restart\" keep their old value.
";

/// Every setting with its default and its effect, in Markdown, in the order of the file.
pub fn reference() -> String {
    let document = Document::embedded();
    let mut page = HEAD.to_owned();
    for section in &document.sections {
        write_section(&mut page, section);
    }
    page
}

fn write_section(page: &mut String, section: &Section) {
    let title = if section.name.is_empty() { &section.doc } else { &section.name };
    // Writing to a String cannot fail.
    let _ = writeln!(page, "\n## {title}\n");
    if !section.name.is_empty() {
        let _ = writeln!(page, "{}\n", section.doc);
    }
    page.push_str("| setting | default | takes effect on | what it does |\n|---|---|---|---|\n");
    for setting in &section.settings {
        write_setting(page, setting);
    }
}

fn write_setting(page: &mut String, Setting { key, doc, default }: &Setting) {
    let (effect, doc) = match doc.strip_suffix(NEEDS_RESTART) {
        Some(doc) => ("restart", doc.trim_end()),
        None => ("reload", doc.as_str()),
    };
    let _ = writeln!(page, "| `{key}` | `{default}` | {effect} | {} |", doc.replace('|', "\\|"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == reference(),
            "docs/configuration.md is out of date: cargo run -- settings > docs/configuration.md"
        );
    }

    #[test]
    fn the_page_names_every_setting_once_and_how_it_takes_effect() {
        let page = reference();
        for setting in Document::embedded().settings() {
            let rows: Vec<_> = page.lines().filter(|row| row.starts_with(&format!("| `{}` |", setting.key))).collect();
            let effect = if setting.needs_restart() { "| restart |" } else { "| reload |" };
            assert!(rows.len() == 1 && rows[0].contains(effect), "{}: {rows:?}", setting.key);
            assert!(!rows[0].contains(NEEDS_RESTART), "{rows:?}");
        }
    }
}
