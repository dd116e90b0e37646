//! `relay.example.toml` as data: the settings, their documentation and their defaults.
//!
//! The file has two parts, each below a ruler (`# ==== Title ====`): the settings that most operators touch, then all
//! others by section. A setting is written with its whole name, `limits.max_filters = 10`, since TOML does not allow
//! the same table in two places.

use toml::{Table, Value};

/// The text of `relay.example.toml`.
pub const EXAMPLE: &str = include_str!("../../../relay.example.toml");

/// The last words in the documentation of a setting that a reload cannot change.
pub(super) const NEEDS_RESTART: &str = "Needs a restart.";

/// How a ruler begins, after the comment sign.
const RULER: &str = "====";

/// Every setting, in the order of the file.
#[derive(Debug, Clone)]
pub struct Document {
    /// The first holds the settings that most operators touch, from all sections; each other one holds the rest of its
    /// section.
    pub sections: Vec<Section>,
}

/// Settings under one heading in the file.
#[derive(Debug, Clone)]
pub struct Section {
    /// The first part of its settings' keys; empty for the first section, which has settings of all sections.
    pub name: String,
    /// The title of the first section; the subject of each other section.
    pub doc: String,
    /// The settings of this section that are not in the first one.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone)]
pub struct Setting {
    /// `section.key`, or `key` where a setting belongs to no section.
    pub key: String,
    /// What the setting does, its unit, what special values mean; one line.
    pub doc: String,
    /// The default, whose type is the setting's type.
    pub default: Value,
}

impl Setting {
    /// The environment variable of the setting.
    pub fn variable(&self) -> String {
        format!("RELAY_{}", self.key.to_uppercase().replace('.', "_"))
    }

    /// The command line flag of the setting, without the leading dashes.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// True when the whole value is a secret and must not be shown.
    pub fn is_secret(&self) -> bool {
        self.key.ends_with("token")
    }

    /// True when a reload cannot change it.
    pub fn needs_restart(&self) -> bool {
        self.doc.contains(NEEDS_RESTART)
    }
}

impl Section {
    /// The section that a comment begins, if it begins one: the first ruler of the file does, and each `[name] doc`.
    fn begun_by(comment: &str, is_first: bool) -> Option<Self> {
        let (name, doc) = if is_first {
            ("", comment.strip_prefix(RULER)?.trim_matches(['=', ' ']))
        } else {
            comment.strip_prefix('[')?.split_once("] ")?
        };
        Some(Self { name: name.to_owned(), doc: doc.to_owned(), settings: Vec::new() })
    }
}

impl Document {
    /// The settings of this program, from the embedded file.
    pub fn embedded() -> Self {
        Self::parse(EXAMPLE).expect("a test reads the embedded settings")
    }

    /// Reads a documented file. A comment directly above a setting documents it. A comment that begins with `[name]`
    /// and has an empty line below it begins a section. Other comments are for the reader of the file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let values: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        let mut sections: Vec<Section> = Vec::new();
        let mut comment: Vec<&str> = Vec::new();

        // The added empty line ends a comment at the end of the file.
        for line in text.lines().map(str::trim).chain([""]) {
            if let Some(words) = line.strip_prefix('#') {
                comment.push(words.trim());
                continue;
            }
            let doc = std::mem::take(&mut comment).join(" ");
            if line.is_empty() {
                sections.extend(Section::begun_by(&doc, sections.is_empty()));
                continue;
            }

            let (Some((key, _)), false) = (line.split_once('='), line.starts_with('[')) else {
                return Err(format!(
                    "`{line}`: a setting stands here by its whole name, as in limits.max_filters = 10"
                ));
            };
            let (key, section) = (key.trim(), sections.last_mut());
            let section = section.ok_or_else(|| format!("`{key}` stands above the first ruler"))?;
            if !section.name.is_empty() && key.split('.').next() != Some(section.name.as_str()) {
                return Err(format!("`{key}` stands in the section [{}]", section.name));
            }
            let default = get(&values, key).ok_or_else(|| format!("`{key}` is not one value on one line"))?;
            section.settings.push(Setting { default: default.clone(), key: key.to_owned(), doc });
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

/// Sets the value at `section.key` or `key`; makes the section where it is missing.
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

    /// The structs have no defaults of their own and refuse unknown fields, so this checks both directions.
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
            assert!(!section.doc.is_empty(), "[{}]", section.name);
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
    fn the_first_part_is_short_and_each_section_stands_once() {
        let sections = Document::embedded().sections;
        let names: BTreeSet<_> = sections.iter().map(|section| &section.name).collect();
        assert_eq!(names.len(), sections.len(), "a section stands twice");
        assert!(sections[0].name.is_empty() && sections[0].settings.len() <= 25, "keep the first part short");
        assert!(EXAMPLE.contains("Advanced ==="), "and divide it from the second");
    }

    #[test]
    fn control_what_stands_in_the_wrong_place_is_refused() {
        let part = "# ==== Most used ====\n\n";
        for (text, hint) in [
            ("a.b = 1\n", "`a.b` stands above the first ruler"),
            (&format!("{part}[a]\nb = 1\n"), "`[a]`: a setting stands here by its whole name"),
            (&format!("{part}# [a] About a.\n\nb.c = 1\n"), "`b.c` stands in the section [a]"),
            (&format!("{part}a.b = [\n1]\n"), "by its whole name"),
            (&format!("{part}a = 1\na = 2\n"), "duplicate key"),
        ] {
            let error = Document::parse(text).expect_err(text);
            assert!(error.contains(hint), "{hint} in: {error}");
        }
        let document = Document::parse(&format!("{part}# A b.\na.b = 1\n\n# [a] About a.\n\n# A c.\na.c = 2")).unwrap();
        assert_eq!(document.settings().map(|setting| setting.doc.as_str()).collect::<Vec<_>>(), ["A b.", "A c."]);
        assert_eq!(document.sections[1].doc, "About a.");
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
            let reloads = ["limits.", "access.", "info.", "protocol.", "log.level"]
                .iter()
                .any(|part| setting.key.starts_with(part));
            assert_eq!(setting.needs_restart(), !reloads, "{}", setting.key);
        }
    }
}
