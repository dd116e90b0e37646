//! Compares the commands in the documents with the `--help` of each program. The tests of several crates share this
//! file: only a crate's own tests know that its program is built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Markdown file of this repository.
pub struct Page {
    /// Relative to the workspace, with forward slashes.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// One simple command on a page: a program with its arguments, without variables in front and redirections behind.
pub struct Typed {
    /// `path:line`.
    pub place: String,
    /// The program's name without its folder, then its arguments.
    pub words: Vec<String>,
}

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// README.md and the other pages beside it, and everything under docs/ and fuzz/README.md.
pub fn pages() -> Vec<Page> {
    let root = workspace();
    let mut folders = vec![root.join("docs")];
    let mut files = vec![root.join("fuzz/README.md")];
    files.extend(std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }

    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let page = |path: PathBuf| Page {
        path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        text: std::fs::read_to_string(&path).unwrap(),
    };
    files.into_iter().map(page).collect()
}

/// The code of a page, each piece with its line number: the lines of code blocks, and the spans between backquotes.
pub fn code(page: &Page) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_fence = false;
    // A span of code may continue in the next line, but not in the next paragraph.
    let mut span: Option<(usize, String)> = None;
    for (number, line) in page.text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let trimmed = line.trim();
        if trimmed.starts_with("```") {
            in_fence = !in_fence;
        } else if in_fence || (line.starts_with("    ") && !trimmed.starts_with(['-', '*'])) {
            found.push((number, trimmed.to_owned()));
        } else if trimmed.is_empty() {
            span = None;
        } else {
            for (index, piece) in trimmed.split('`').enumerate() {
                if index > 0 {
                    span = match span.take() {
                        Some(ended) => {
                            found.push(ended);
                            None
                        }
                        None => Some((number, String::new())),
                    };
                }
                if let Some((_, text)) = &mut span {
                    text.push_str(piece);
                }
            }
            if let Some((_, text)) = &mut span {
                text.push(' ');
            }
        }
    }
    found
}

/// The simple commands of all pages.
pub fn typed(pages: &[Page]) -> Vec<Typed> {
    let mut found = Vec::new();
    for page in pages {
        for (number, code) in code(page) {
            let place = format!("{}:{number}", page.path);
            found.extend(simple_commands(&code).into_iter().map(|words| Typed { place: place.clone(), words }));
        }
    }
    found
}

/// Splits a line as a shell does, as far as documents need it: quotes, `&&`, `||`, `|`, `;`, `&`, parentheses and a
/// comment at the end. Removes a prefix that runs the program, such as `cargo run`.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let (mut word, mut quote) = (String::new(), None);
    for c in line.chars().chain([' ']) {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.push(c),
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '#' && word.is_empty() => break,
            None if c.is_whitespace() || "|&;()".contains(c) => {
                if !word.is_empty() {
                    commands.last_mut().unwrap().push(std::mem::take(&mut word));
                }
                if !c.is_whitespace() {
                    commands.push(Vec::new());
                }
            }
            None => word.push(c),
        }
    }
    commands.into_iter().filter_map(|words| program_first(&words)).collect()
}

fn program_first(words: &[String]) -> Option<Vec<String>> {
    let is_variable =
        |word: &str| word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.chars().all(variable_part));
    let skipped = words.iter().take_while(|word| is_variable(word) || ["$", "sudo", "exec"].contains(&word.as_str()));
    let words = &words[skipped.count()..];
    let words = match words {
        [cargo, run, rest @ ..] if cargo == "cargo" && run == "run" => {
            let (own, arguments) = match rest.iter().position(|word| word == "--") {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => (rest, &rest[rest.len()..]),
            };
            let package = own.iter().position(|word| word == "-p").and_then(|flag| own.get(flag + 1));
            [&[package.map_or("relay", String::as_str).to_owned()], arguments].concat()
        }
        words => words.to_vec(),
    };

    let (program, arguments) = words.split_first()?;
    let program = program.rsplit('/').next()?.to_owned();
    Some([&[program], arguments].concat())
}

fn variable_part(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
}

/// The `--help` of a program and of each of its commands.
pub struct Program {
    name: &'static str,
    path: &'static str,
    helps: BTreeMap<Option<String>, Help>,
}

struct Help {
    commands: BTreeSet<String>,
    flags: BTreeSet<String>,
}

impl Program {
    /// `path` is the built program.
    pub fn new(name: &'static str, path: &'static str) -> Self {
        Self { name, path, helps: BTreeMap::new() }
    }

    /// How many of the commands run this program, and the faults in them: commands and flags that it does not have.
    pub fn check(&mut self, typed: &[Typed]) -> (usize, Vec<String>) {
        let own: Vec<_> = typed.iter().filter(|typed| typed.words[0] == self.name).collect();
        let faults = own.iter().flat_map(|typed| self.faults(typed)).collect();
        (own.len(), faults)
    }

    fn faults(&mut self, typed: &Typed) -> Vec<String> {
        let arguments = &typed.words[1..];
        let place = format!("{}: `{}`", typed.place, typed.words.join(" "));
        let commands = self.help(None).commands.clone();
        // The first word that is neither a flag nor, perhaps, the value of one.
        let command = arguments.first().filter(|word| !word.starts_with('-') && !is_placeholder(word));
        if let Some(command) = command.filter(|command| !commands.contains(*command)) {
            return vec![format!("{place}: {} has no command {command}, but {commands:?}", self.name)];
        }
        let help = self.help(command.cloned());
        let flags = arguments.iter().filter(|word| word.starts_with('-') && word.len() > 1 && *word != "--");
        let name = |flag: &String| flag.split('=').next().unwrap().to_owned();
        let unknown: Vec<_> = flags.map(name).filter(|flag| !help.flags.contains(flag)).collect();
        unknown.into_iter().map(|flag| format!("{place}: there is no {flag}")).collect()
    }

    fn help(&mut self, command: Option<String>) -> &Help {
        let path = self.path;
        self.helps.entry(command).or_insert_with_key(|command| {
            let output = Command::new(path).args(command).arg("--help").output().unwrap();
            assert!(output.status.success(), "{path} {command:?} --help");
            Help::parse(&String::from_utf8(output.stdout).unwrap())
        })
    }
}

impl Help {
    fn parse(text: &str) -> Self {
        let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        // The description of a command may continue in lines that are indented further.
        let commands = commands.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
        let words = text.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(str::split_whitespace);
        let flag = |word: &str| {
            let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(word.len());
            word[..end].to_owned()
        };
        Self {
            commands: commands.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect(),
            flags: words.filter(|word| word.starts_with('-')).map(flag).collect(),
        }
    }
}

/// True for a placeholder that the reader replaces.
fn is_placeholder(word: &str) -> bool {
    word.contains(['<', '…', '[']) || word == "..." || word.chars().all(|c| c.is_ascii_uppercase())
}

/// A page that does not exist, for controls.
pub fn page(text: &str) -> Page {
    Page { path: "page.md".to_owned(), text: text.to_owned() }
}
