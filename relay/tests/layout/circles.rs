//! No two files import from each other, directly or through others: so each can be read after the files that it needs.
//!
//! An import counts for the file that defines the name, whatever re-exports it. A folder's `mod.rs` may use its files,
//! and they may use what it defines: together they are one unit, which no file outside is in a circle with.

use crate::source::{Source, code, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Files that may stay in a circle, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("relay/src/outbox/queue.rs", "an outbox holds items of subscriptions, a subscription pushes into its outbox"),
    ("relay/src/outbox/subscription.rs", "see queue.rs"),
    ("relay/src/outbox/items.rs", "see queue.rs"),
];

type Path = Vec<String>;

/// One `use`, flattened: the path, and the name by which the file knows it.
struct Use {
    path: Path,
    name: String,
}

struct File<'a> {
    source: &'a Source,
    module: Path,
    defines: BTreeSet<String>,
    uses: Vec<Use>,
    /// Paths that the code names without a `use`.
    mentions: Vec<Path>,
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The module that the file at `path` is, in the crate at `root`.
fn module_of(path: &str, root: &str) -> Option<Path> {
    let inside = path.strip_prefix(root)?.strip_suffix(".rs")?;
    let mut module: Path = inside.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    Some(module)
}

/// `a::{b, c::D as E}` as its paths.
fn flatten(path: &str) -> Vec<Use> {
    let path = path.trim();
    let Some((prefix, braced)) = path.split_once('{') else {
        let (path, alias) = path.split_once(" as ").map_or((path, None), |(path, alias)| (path, Some(alias)));
        let mut path: Path =
            path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        let name = alias.map(|alias| alias.trim().to_owned()).or_else(|| path.last().cloned());
        return name.map(|name| Use { path, name }).into_iter().collect();
    };

    let inner = braced.trim_end().strip_suffix('}').unwrap_or(braced);
    let (mut depth, mut part, mut parts) = (0, String::new(), Vec::new());
    for character in inner.chars().chain([',']) {
        match character {
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ => {
                depth += i32::from(character == '{') - i32::from(character == '}');
                part.push(character);
            }
        }
    }

    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| flatten(&format!("{prefix}{}", part.trim()))).collect()
}

impl<'a> File<'a> {
    fn read(source: &'a Source, module: Path) -> Self {
        let code = code(&source.text);
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let mut defines = BTreeSet::new();
        let mut previous = "";
        for word in words(code) {
            if ["fn", "struct", "enum", "trait", "type", "union", "const", "static", "macro_rules"].contains(&previous)
            {
                defines.insert(word.to_owned());
            }
            previous = word;
        }

        let (mut uses, mut rest) = (Vec::new(), String::new());
        for statement in code.split_inclusive(';') {
            // The statement begins after the last block or attribute.
            let begins = statement.rfind("use ").filter(|at| {
                let before = statement[..*at].trim_end();
                before.is_empty() || before.ends_with(['}', ']', ')', '{']) || before.ends_with("pub")
            });
            match begins {
                Some(at) => uses.extend(flatten(statement[at + 4..].trim_end_matches(';'))),
                None => rest.push_str(statement),
            }
        }

        let mut mentions = Vec::new();
        for prefix in ["crate::", "super::"] {
            for (at, _) in rest.match_indices(prefix) {
                if rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let path = rest[at..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap();
                mentions.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
            }
        }
        Self { source, module, defines, uses, mentions }
    }
}

struct Tree<'a> {
    files: BTreeMap<Path, File<'a>>,
}

impl<'a> Tree<'a> {
    /// The files of the crate at `root` that are compiled outside tests.
    fn new(sources: &'a [Source], root: &str) -> Self {
        let all = sources.iter().filter_map(|source| Some((source, module_of(&source.path, root)?)));
        let all: Vec<_> = all.collect();
        let mut tests = BTreeSet::<Path>::new();
        for (source, module) in &all {
            for (at, marker) in source.text.match_indices("#[cfg(test)]\n") {
                let declared = source.text[at + marker.len()..].trim_start();
                let declared = declared
                    .strip_prefix("#[path")
                    .map_or(declared, |rest| rest.split_once('\n').map_or("", |(_, declared)| declared.trim_start()));
                let name = declared.strip_prefix("mod ").and_then(|rest| rest.split_once(';'));
                tests.extend(name.map(|(name, _)| [module.as_slice(), &[name.to_owned()]].concat()));
            }
        }

        let is_test = |source: &Source, module: &Path| {
            source.path.ends_with("tests.rs") || (1..=module.len()).any(|end| tests.contains(&module[..end]))
        };
        let kept = all.into_iter().filter(|(source, module)| !is_test(source, module));
        Self { files: kept.map(|(source, module)| (module.clone(), File::read(source, module))).collect() }
    }

    /// `path` from the crate's root, as `module` means it; `None` for another crate's.
    fn absolute(&self, module: &Path, path: &[String]) -> Option<Path> {
        let mut base = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" | "super" => {
                while let Some(first) = rest.first().filter(|first| ["self", "super"].contains(&first.as_str())) {
                    if first == "super" {
                        base.pop();
                    }
                    rest = &rest[1..];
                }
            }
            first => {
                let child = [module.as_slice(), &[first.to_owned()]].concat();
                if !self.files.contains_key(&child) {
                    return None;
                }
            }
        }

        base.extend_from_slice(rest);
        Some(base)
    }

    /// The file that defines what `path` names, through re-exports.
    fn definer(&self, path: &[String], depth: usize) -> Option<&File<'a>> {
        let end = (0..=path.len()).rev().find(|end| self.files.contains_key(&path[..*end]))?;
        let file = &self.files[&path[..end]];
        let Some(name) = path.get(end) else { return Some(file) };
        if depth == 0 || file.defines.contains(name) {
            return Some(file);
        }
        let found = file.uses.iter().filter(|used| used.name == *name || used.name == "*").find_map(|used| {
            let glob = used.name == "*";
            let target = if glob { &used.path[..used.path.len() - 1] } else { &used.path[..] };
            let mut target = self.absolute(&file.module, target)?;
            target.extend_from_slice(&path[if glob { end } else { end + 1 }..]);
            self.definer(&target, depth - 1).filter(|file| !glob || file.defines.contains(name))
        });
        found.or(Some(file))
    }

    /// From each file to those that it imports from, the face of its own folders aside.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges = BTreeMap::<&str, BTreeSet<&str>>::new();
        for file in self.files.values() {
            let own = edges.entry(&file.source.path).or_default();
            for path in file.uses.iter().map(|used| &used.path).chain(&file.mentions) {
                let target = self.absolute(&file.module, path);
                let Some(target) = target.and_then(|path| self.definer(&path, 8)) else { continue };
                if !file.module.starts_with(&target.module) {
                    own.insert(&target.source.path);
                }
            }
        }
        edges
    }
}

/// The files of each crate that import from each other.
fn circles(sources: &[Source]) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    for root in ["relay/src/", "loadtest/src/", "deploy/src/", "haproxy/src/"] {
        let tree = Tree::new(sources, root);
        let edges = tree.imports();
        let reach = |from| {
            let (mut reached, mut waiting) = (BTreeSet::<&str>::new(), vec![from]);
            while let Some(file) = waiting.pop() {
                waiting.extend(edges.get(file).into_iter().flatten().filter(|next| reached.insert(next)));
            }
            reached
        };

        let reached: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|file| (*file, reach(file))).collect();
        let mut done = BTreeSet::new();
        for (file, others) in &reached {
            let circle: Vec<&str> = others.iter().copied().filter(|other| reached[other].contains(file)).collect();
            if !circle.is_empty() && circle.iter().all(|file| done.insert(file.to_string())) {
                let place =
                    |path: &&str| sources.iter().find(|source| source.path == *path).map(|source| &*source.path);
                found.push(circle.iter().filter_map(place).collect());
            }
        }
    }
    found
}

#[test]
fn no_files_import_from_each_other() {
    let sources = sources();
    let mut found = circles(&sources);
    let allowed = |path: &&str| ALLOWED.iter().any(|(file, _)| file == path);
    found.retain(|circle| !circle.iter().all(allowed));
    assert_eq!(found, Vec::<Vec<&str>>::new());
}

#[test]
fn control_circles_are_found() {
    let sources = |files: &[(&str, &str)]| -> Vec<Source> {
        files.iter().map(|(path, text)| Source::new(&format!("relay/src/{path}"), text)).collect()
    };
    for files in [
        // Straight, by way of a re-export, by way of a third, and without a `use`.
        &[("a/x.rs", "use super::y::Y; pub struct X;"), ("a/y.rs", "use super::x::X; pub struct Y;")][..],
        &[
            ("a/mod.rs", "mod x;\nmod y;\npub use x::X;\npub use y::{Y as Z};"),
            ("a/x.rs", "use crate::a::Z; pub struct X;"),
            ("a/y.rs", "use super::{X};\npub struct Y;"),
        ],
        &[
            ("x.rs", "use crate::y::{self, Y}; pub struct X;"),
            ("y.rs", "use crate::z::*; pub struct Y;"),
            ("z.rs", "pub fn z() { crate::x::x() }"),
        ],
    ] {
        let sources = sources(files);
        let found = circles(&sources);
        assert_eq!(found.len(), 1, "{files:?}");
        assert!(found[0].len() >= 2, "{found:?}");
    }

    for files in [
        // One way; a folder and its files; a test; a comment.
        &[("a/x.rs", "use super::y::Y; pub struct X;"), ("a/y.rs", "pub struct Y;")][..],
        &[("a/mod.rs", "mod x;\nuse x::X; pub struct Y;"), ("a/x.rs", "use super::Y; pub struct X;")],
        &[
            ("x.rs", "use crate::y::Y; pub struct X;"),
            ("y.rs", "pub struct Y;\n#[cfg(test)]\nmod tests {\nuse crate::x::X; }"),
        ],
        &[("x.rs", "use crate::y::Y; pub struct X;"), ("y.rs", "// use crate::x::X;\npub struct Y;")],
    ] {
        assert_eq!(circles(&sources(files)), Vec::<Vec<&str>>::new(), "{files:?}");
    }
}
