//! `relay.example.toml` as data: the settings, their documentation and their defaults.

use toml::{Table, Value};

/// The text of `relay.example.toml`.
pub const EXAMPLE: &str = include_str!("../../../relay.example.toml");

/// The mark in the documentation of a setting that a reload cannot change.
const NEEDS_RESTART: &str = "Needs a restart.";

/// Every setting, by section, in the order of the file.
#[derive(Debug, Clone)]
pub struct Document {
    /// The sections; the first holds the settings that stand above all others and has no name.
    pub sections: Vec<Section>,
}

/// Settings that belong together.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its name in brackets; empty for the first.
    pub name: String,
    /// What it is about.
    pub doc: String,
    /// What is in it.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone)]
pub struct Setting {
    /// `section.key`, or `key` above the first section.
    pub key: String,
    /// What it does, its unit, what special values mean; one line.
    pub doc: String,
    /// Its default, which also says its type.
    pub default: Value,
}

impl Setting {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("RELAY_{}", self.key.to_uppercase().replace('.', "_"))
    }

    /// The flag that sets it, without the dashes in front.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// True when its value is a secret as a whole, not to be shown.
    pub fn is_secret(&self) -> bool {
        self.key.ends_with("token")
    }

    /// True when a reload cannot change it.
    pub fn needs_restart(&self) -> bool {
        self.doc.contains(NEEDS_RESTART)
    }
}

impl Document {
    /// The settings of this program.
    pub fn embedded() -> Self {
        Self::parse(EXAMPLE).expect("a test reads the embedded settings")
    }

    /// Reads a documented file: a comment directly above a setting or a section belongs to it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let values: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        let mut sections = vec![Section { name: String::new(), doc: String::new(), settings: Vec::new() }];
        let mut comment: Vec<&str> = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some(words) = line.strip_prefix('#') {
                comment.push(words.trim());
                continue;
            }
            let doc = std::mem::take(&mut comment).join(" ");
            if line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
                sections.push(Section { name: name.to_owned(), doc, settings: Vec::new() });
            } else if let (Some((key, _)), Some(section)) = (line.split_once('='), sections.last_mut()) {
                let key = if section.name.is_empty() {
                    key.trim().to_owned()
                } else {
                    format!("{}.{}", section.name, key.trim())
                };
                let default = get(&values, &key).ok_or_else(|| format!("`{key}` is not one value on one line"))?;
                section.settings.push(Setting { default: default.clone(), key, doc });
            } else {
                return Err(format!("this line is neither a comment nor a section nor a setting: {line}"));
            }
        }
        Ok(Self { sections })
    }

    /// Every setting in the order of the file.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.sections.iter().flat_map(|section| &section.settings)
    }

    /// The setting of that name.
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings().find(|setting| setting.key == key)
    }

    /// A table of all defaults.
    pub fn defaults(&self) -> Table {
        let mut table = Table::new();
        for setting in self.settings() {
            set(&mut table, &setting.key, setting.default.clone());
        }
        table
    }
}

/// The value at `section.key` or `key`.
pub(super) fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, key)) => table.get(section)?.as_table()?.get(key),
        None => table.get(key),
    }
}

/// Puts a value at `section.key` or `key`, making the section where it is missing.
pub(super) fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        Some((section, key)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                section.insert(key.to_owned(), value);
            }
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::collections::BTreeSet;

    /// The structs have no defaults of their own and know no unknown fields, so this holds both directions.
    #[test]
    fn the_documented_settings_are_exactly_those_of_the_structs() {
        let defaults = Document::embedded().defaults();
        defaults.clone().try_into::<Config>().expect("every documented setting has a field and a value of its type");
        for setting in Document::embedded().settings() {
            let mut missing = defaults.clone();
            match setting.key.split_once('.') {
                Some((section, key)) => missing[section].as_table_mut().unwrap().remove(key),
                None => missing.remove(&setting.key),
            };
            assert!(missing.try_into::<Config>().is_err(), "control: {} could go unnoticed", setting.key);
            let mut added = defaults.clone();
            set(&mut added, &format!("{}_too", setting.key), setting.default.clone());
            assert!(added.try_into::<Config>().is_err(), "control: a setting beside {} could too", setting.key);
        }
    }

    #[test]
    fn every_setting_and_section_is_documented() {
        for section in &Document::embedded().sections {
            assert_eq!(section.name.is_empty(), section.doc.is_empty(), "[{}]", section.name);
            for Setting { key, doc, default } in &section.settings {
                assert!(doc.len() > 20 && doc.ends_with('.'), "{key}: {doc}");
                let says_zero = doc.contains("0: ") || key == "limits.max_ahead_seconds";
                assert!(default.as_integer() != Some(0) || says_zero, "{key}: what does 0 mean?");
                let says_empty = doc.contains("Empty: ") || key == "access.deny_pubkeys" || key == "access.deny_kinds";
                let empty = default.as_str() == Some("") || default.as_array().is_some_and(Vec::is_empty);
                assert!(!empty || says_empty, "{key}: what does empty mean?");
                for (suffix, word) in
                    [("_seconds", "seconds"), ("_milliseconds", "milliseconds"), ("_bytes", "bytes"), ("_bits", "bits")]
                {
                    assert!(!key.ends_with(suffix) || doc.to_lowercase().contains(word), "{key}: name the unit");
                }
            }
        }
    }

    #[test]
    fn names_are_unique_in_every_place() {
        let document = Document::embedded();
        let mut variables = BTreeSet::new();
        for setting in document.settings() {
            assert!(variables.insert(setting.variable()), "{} twice", setting.variable());
            assert!(variables.insert(setting.variable() + "_FILE"), "{} is ambiguous", setting.variable());
        }
        let flags: BTreeSet<_> = document.settings().map(Setting::flag).collect();
        assert_eq!(flags.len() * 2, variables.len());
        for known in
            ["RELAY_LISTEN", "RELAY_ADMIN_LISTEN", "RELAY_DATABASE_URLS", "RELAY_REDIS_URL", "RELAY_PUBLIC_URL"]
        {
            assert!(variables.contains(known), "tests and operators rely on {known}");
        }
    }

    #[test]
    fn what_a_reload_changes_is_what_the_design_promises() {
        for setting in Document::embedded().settings() {
            let reloads = ["limits.", "access.", "info.", "log.level"].iter().any(|part| setting.key.starts_with(part));
            assert_eq!(setting.needs_restart(), !reloads, "{}", setting.key);
        }
    }
}
