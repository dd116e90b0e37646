//! Checks the names in pages: files, headings, settings, metrics, tests, targets of make, programs.

use crate::commands::{Page, code, typed, workspace};
use relay::config::{Document, Setting};
use relay::telemetry::CATALOGUE;
use std::collections::BTreeSet;
use std::path::Path;

/// The folders of this repository in which pages name files.
const FOLDERS: &[&str] =
    &["relay/", "loadtest/", "haproxy/", "deploy/", "docs/", "scripts/", "migrations/", "fuzz/", ".github/", ".ci/"];
/// Programs that `cargo run -p` can run.
const PROGRAMS: &[&str] = &["relay", "loadtest", "deploy"];

/// All names in pages that do not exist, each with its place.
pub fn faults(pages: &[Page]) -> Vec<String> {
    let known = Known::new();
    pages.iter().flat_map(|page| known.faults(page)).collect()
}

struct Known {
    sections: BTreeSet<String>,
    settings: BTreeSet<String>,
    variables: BTreeSet<String>,
    targets: BTreeSet<String>,
    /// Folders that a build or a run makes, from .gitignore.
    made: Vec<String>,
    /// All Rust sources in one text.
    sources: String,
}

impl Known {
    fn new() -> Self {
        let document = Document::embedded();
        let names = document.sections.iter().map(|section| &section.name);
        let settings = || document.settings();
        let makefile = std::fs::read_to_string(workspace().join("Makefile")).unwrap();
        let ignored = std::fs::read_to_string(workspace().join(".gitignore")).unwrap();
        let mut variables = BTreeSet::from(["RELAY_CONFIG".to_owned(), "RELAY_LOG".to_owned()]);
        variables.extend(settings().flat_map(|setting| [setting.variable(), setting.variable() + "_FILE"]));
        let mut sources = String::new();
        for folder in ["relay/src", "relay/tests", "haproxy/tests", "deploy/tests", "loadtest/tests"] {
            read_sources(&workspace().join(folder), &mut sources);
        }

        Self {
            sections: names.filter(|name| !name.is_empty()).cloned().collect(),
            settings: settings().map(|Setting { key, .. }| key.clone()).collect(),
            variables,
            targets: makefile
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, _)| name.to_owned())
                .collect(),
            made: ignored.lines().filter_map(|line| line.strip_prefix('/')).map(str::to_owned).collect(),
            sources,
        }
    }

    fn faults(&self, page: &Page) -> Vec<String> {
        let mut faults = Vec::new();
        for link in links(&page.text).filter(|link| !reaches(page, link)) {
            faults.push(format!("{}: the link to {link} leads nowhere", page.path));
        }
        for (line, piece) in code(page) {
            let is_call = |word: &str| piece.contains(&format!("{word}("));
            let missing = words(&piece).filter(|word| !self.knows(word) && !is_call(word));
            faults.extend(missing.map(|word| format!("{}:{line}: there is no {word}", page.path)));
        }

        for row in page.text.lines().filter(|row| row.starts_with("| test |") || row.starts_with("| control |")) {
            let tests = row.split('`').skip(1).step_by(2).filter(|name| is_test_name(name));
            let missing = tests.filter(|name| !self.has_test(name));
            faults.extend(missing.map(|name| format!("{}: there is no test {name}", page.path)));
        }

        for command in typed(std::slice::from_ref(page)) {
            if let [program, target, ..] = command.words.as_slice()
                && program == "make"
                && target.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                && !self.targets.contains(target)
            {
                faults.push(format!("{}: there is no `make {target}`", command.place));
            }
        }

        for package in page.text.split("cargo run ").skip(1).filter_map(|rest| rest.split("-p ").nth(1)) {
            let package = package.split(|c: char| !c.is_ascii_lowercase()).next().unwrap();
            if !PROGRAMS.contains(&package) {
                faults.push(format!("{}: there is no `cargo run -p {package}`", page.path));
            }
        }
        faults
    }

    /// False where a word of code names something in this repository that does not exist.
    fn knows(&self, word: &str) -> bool {
        if word.starts_with("RELAY_") && word.len() > "RELAY_".len() && !word.contains("SECTION") && word != "RELAY_KEY"
        {
            return self.variables.contains(word);
        }
        if word.starts_with("nostr_") && word.contains('_') {
            let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            return CATALOGUE.iter().any(|metric| metric.name == word || metric.name == base);
        }

        if FOLDERS.iter().any(|folder| word.starts_with(folder)) {
            let is_made = self.made.iter().any(|folder| word.starts_with(folder));
            // A pattern with a star names some files, not one.
            return is_made || word.contains('*') || begins_a_file(&workspace().join(word));
        }

        match word.split_once('.') {
            Some((section, key)) if self.sections.contains(section) && is_key(key) => self.settings.contains(word),
            _ => true,
        }
    }

    fn has_test(&self, name: &str) -> bool {
        // The second form is how macros make tests.
        self.sources.contains(&format!("fn {name}(")) || self.sources.contains(&format!("    {name}: "))
    }
}

fn read_sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Words that could be names: letters, digits, and the punctuation inside names of files and settings.
fn words(code: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_./-*@".contains(c);
    code.split(move |c| !part(c)).map(|word| word.trim_end_matches(['.', '/'])).filter(|word| !word.is_empty())
}

/// True for the path of a file, and for its beginning up to a dash, such as `docs/decisions/0008`.
fn begins_a_file(path: &Path) -> bool {
    let begins = || {
        let name = format!("{}-", path.file_name()?.to_str()?);
        let entries = std::fs::read_dir(path.parent()?).ok()?;
        Some(entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(|entry| entry.starts_with(&name))))
    };
    path.exists() || begins() == Some(true)
}

fn is_key(text: &str) -> bool {
    // Not a file: `relay.toml` begins like a section as well.
    !["db", "md", "rs", "toml", "json", "jsonl", "sql", "yaml"].contains(&text)
        && text.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
}

fn is_test_name(text: &str) -> bool {
    text.matches('_').count() >= 2
        && text.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        && !text.starts_with("nostr_")
}

/// The targets in this repository of a page's links and pictures.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.contains(char::is_whitespace))
}

fn reaches(page: &Page, link: &str) -> bool {
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let own = workspace().join(&page.path);
    let target = if file.is_empty() { own } else { own.parent().unwrap().join(file) };
    let text = || if file.is_empty() { page.text.clone() } else { std::fs::read_to_string(&target).unwrap() };
    match anchor {
        None => target.exists(),
        Some(anchor) => (file.is_empty() || target.is_file()) && anchors(&text()).contains(anchor),
    }
}

/// The anchors of a page's headings, as forges make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}
