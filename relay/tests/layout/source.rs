//! The sources of the workspace, and as much of Rust's grammar as the rules need: good enough for code that `rustfmt`
//! has formatted.

use std::path::{Path, PathBuf};

pub(crate) struct Source {
    /// Relative to the workspace, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The top-level module of the library that this file belongs to.
    pub(crate) fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("relay/src/")?;
        let module = inside.split('/').next()?;
        Some(module.strip_suffix(".rs").unwrap_or(module)).filter(|module| *module != "lib")
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust source of the workspace.
pub(crate) fn sources() -> Vec<Source> {
    files(&["rs"])
}

/// Every file of the workspace whose name ends in one of `extensions`.
pub(crate) fn files(extensions: &[&str]) -> Vec<Source> {
    let root = workspace();
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                folders.push(path);
            } else if extensions.contains(&extension) {
                let relative = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path: relative, text: std::fs::read_to_string(&path).unwrap() });
            }
        }
    }
    found
}

/// The code without its comments, line by line; a string keeps what looks like a comment.
pub(crate) fn code(text: &str) -> String {
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
