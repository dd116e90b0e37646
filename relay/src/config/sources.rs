//! Reads settings from the sources beside the defaults (file, environment, command line), and converts their texts to
//! values.

use super::document::{Document, Setting};
use super::error::Problem;
use super::redacted::redact;
use super::suggest::did_you_mean;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

const PREFIX: &str = "RELAY_";
const CONFIG_VARIABLE: &str = "RELAY_CONFIG";
/// A short name for `RELAY_LOG_LEVEL`, which operators know from other programs.
const LOG_VARIABLE: &str = "RELAY_LOG";

/// The command line and the environment of the process; a reload reads the settings from them again.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file that the command line names.
    pub file: Option<PathBuf>,
    /// Variables whose names begin with `RELAY_`.
    pub environment: Vec<(String, String)>,
    /// `(section.key, text)` from the command line.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// Takes the given command line and the environment of this process. Bytes that are not UTF-8 are replaced, and the
    /// value is refused later.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        Self { file, environment, flags }
    }

    /// The file to read, if one is named: by the command line, else by `RELAY_CONFIG`.
    pub fn config_file(&self) -> Option<PathBuf> {
        let from_environment = || {
            let (_, path) =
                self.environment.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty())?;
            Some(PathBuf::from(path))
        };
        self.file.clone().or_else(from_environment)
    }
}

impl Sources {
    /// True where a file, the environment or the command line gives the setting `section.key`.
    pub fn gives(&self, key: &str) -> bool {
        collect(&Document::embedded(), self).0.iter().any(|given| given.key == key)
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `relay.example.toml`.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by its name.
    Variable(String),
    /// A command line flag, without the leading dashes.
    Flag(String),
    /// A file of its own (the path), and the source that names it. The value counts as a secret and is never shown.
    OwnFile(Box<Self>, PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::OwnFile(named_by, path) => write!(f, "{}, named by {named_by}", path.display()),
        }
    }
}

/// One value from one source.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// All values that the sources give, in ascending precedence, and all problems with them.
pub(super) fn collect(document: &Document, sources: &Sources) -> (Vec<Given>, Vec<Problem>) {
    let mut collected = Collected { document, given: Vec::new(), problems: Vec::new() };
    if let Some(path) = sources.config_file() {
        collected.file(&path);
    }
    collected.environment(&sources.environment);
    for (key, text) in &sources.flags {
        if let Some(setting) = document.setting(key) {
            collected.take(setting, Value::String(text.clone()), Origin::Flag(setting.flag()), true);
        }
    }
    (collected.given, collected.problems)
}

struct Collected<'a> {
    document: &'a Document,
    given: Vec<Given>,
    problems: Vec<Problem>,
}

impl Collected<'_> {
    fn file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problems.push(Problem::new(name, format!("cannot be read: {error}"))),
        };
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return self.problems.push(Problem::new(name, syntax_error(&text, &error))),
        };

        for (key, value) in table {
            match value {
                Value::Table(section) if self.document.setting(&key).is_none() => {
                    for (inner, value) in section {
                        self.file_value(format!("{key}.{inner}"), value, path);
                    }
                }
                value => self.file_value(key, value, path),
            }
        }
    }

    fn file_value(&mut self, key: String, value: Value, path: &Path) {
        let origin = Origin::File(path.to_owned());
        let Some(setting) = self.document.setting(&key) else {
            let hint = did_you_mean(&key, self.document.settings().map(|setting| setting.key.as_str()));
            let problem = Problem::new(key, format!("there is no such setting{hint}"));
            return self.problems.push(Problem { origin: origin.to_string(), ..problem });
        };
        match value.as_table().map(|table| (table.len(), table.get("file"))) {
            None => self.take(setting, value, origin, false),
            Some((1, Some(Value::String(path)))) => self.own_file(setting, Path::new(path), origin),
            Some(_) => self.reject(setting, &origin, "expected a value, or { file = \"/path\" }"),
        }
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        let named = |wanted: &str| variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let mut known = BTreeSet::from([CONFIG_VARIABLE.to_owned(), LOG_VARIABLE.to_owned()]);
        for setting in self.document.settings() {
            let (variable, file_variable) = (setting.variable(), setting.variable() + "_FILE");
            let short = if setting.key == "log.level" { named(LOG_VARIABLE) } else { None };
            match (named(&variable), named(&file_variable)) {
                (Some(_), Some(_)) => {
                    let message = format!("{variable} and {file_variable} are both set: keep one");
                    self.reject(setting, &Origin::Variable(variable.clone()), &message);
                }
                (Some(text), None) => {
                    self.take(setting, Value::String(text.clone()), Origin::Variable(variable.clone()), true);
                }
                (None, Some(path)) => {
                    self.own_file(setting, Path::new(path), Origin::Variable(file_variable.clone()));
                }
                (None, None) => {
                    if let Some(text) = short {
                        let origin = Origin::Variable(LOG_VARIABLE.to_owned());
                        self.take(setting, Value::String(text.clone()), origin, true);
                    }
                }
            }
            known.extend([variable, file_variable]);
        }

        for (name, _) in variables.iter().filter(|(name, _)| !known.contains(name)) {
            let hint = did_you_mean(name, known.iter().map(String::as_str).filter(|name| !name.ends_with("_FILE")));
            self.problems.push(Problem::new(name, format!("there is no such environment variable{hint}")));
        }
    }

    /// Reads the value from a file of its own. No error repeats the content, which may be a secret.
    fn own_file(&mut self, setting: &Setting, path: &Path, named_by: Origin) {
        let origin = Origin::OwnFile(Box::new(named_by), path.to_owned());
        match std::fs::read_to_string(path) {
            Ok(text) => self.take(setting, Value::String(text.trim().to_owned()), origin, true),
            Err(error) => self.reject(setting, &origin, &format!("cannot be read: {error}")),
        }
    }

    fn take(&mut self, setting: &Setting, value: Value, origin: Origin, is_text: bool) {
        match coerce(&setting.default, value, is_text, matches!(origin, Origin::OwnFile(..))) {
            Ok(value) => self.given.push(Given { key: setting.key.clone(), value, origin }),
            Err(message) => self.reject(setting, &origin, &message),
        }
    }

    fn reject(&mut self, setting: &Setting, origin: &Origin, message: &str) {
        self.problems.push(Problem { origin: origin.to_string(), ..Problem::new(&setting.key, message) });
    }
}

/// The line of a syntax error, and what is wrong. The parser's whole error would repeat the line, which may hold a
/// secret.
fn syntax_error(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    line.map_or_else(|| error.message().to_owned(), |line| format!("line {line}: {}", error.message()))
}

/// Converts `given` to the type of the default. Text from the environment, the command line or a file of its own may
/// be of any type; a list may always be written as one text.
fn coerce(default: &Value, given: Value, is_text: bool, secret: bool) -> Result<Value, String> {
    match (default, given) {
        (Value::Array(_), Value::String(text)) => {
            let items = text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        (Value::Integer(_), Value::String(text)) if is_text => text
            .parse()
            .map(Value::Integer)
            .map_err(|_| format!("expected a whole number, got {}", shown(&text, secret))),
        (Value::Boolean(_), Value::String(text)) if is_text => match text.as_str() {
            "true" | "on" => Ok(Value::Boolean(true)),
            "false" | "off" => Ok(Value::Boolean(false)),
            _ => Err(format!("expected true or false, on or off, got {}", shown(&text, secret))),
        },
        (default, given) if default.same_type(&given) => Ok(given),
        (default, given) => Err(format!("expected {}, got {}", type_name(default), type_name(&given))),
    }
}

fn shown(text: &str, secret: bool) -> String {
    if secret { "something else".to_owned() } else { format!("\"{}\"", redact(text)) }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Datetime(_) => "a date",
        Value::Table(_) => "a table",
    }
}
