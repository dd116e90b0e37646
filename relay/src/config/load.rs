//! Builds a configuration from its sources: merges, converts and validates.

use super::Config;
use super::document::{Document, set};
use super::error::{Problem, Problems};
use super::redacted::redact;
use super::sources::{Given, Origin, Sources, collect};
use super::validate::validate;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use toml::{Table, Value};

/// A valid configuration, and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings that the relay runs with.
    pub config: Arc<Config>,
    /// Every setting in the order of `relay.example.toml`.
    pub settings: Vec<Effective>,
}

/// One setting and its value. `Display` shows `key = value` without secrets.
#[derive(Clone, PartialEq)]
pub struct Effective {
    /// `section.key`.
    pub key: String,
    /// Where the value came from.
    pub origin: Origin,
    /// True when a reload cannot change it.
    pub needs_restart: bool,
    /// True when the value must not be shown.
    pub is_secret: bool,
    pub(super) value: Value,
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = ", self.key)?;
        match (&self.origin, &self.value) {
            (Origin::OwnFile(..), _) => f.write_str("\"***\""),
            (origin, _) if self.is_secret && *origin != Origin::Default => f.write_str("\"***\""),
            (_, value) => without_secrets(value).fmt(f),
        }
    }
}

impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} (from {})", self.origin)
    }
}

fn without_secrets(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact(text)),
        Value::Array(items) => Value::Array(items.iter().map(without_secrets).collect()),
        value => value.clone(),
    }
}

/// Reads every source and checks the result. Fails with all problems, not only the first.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let document = Document::embedded();
    let (given, mut problems) = collect(&document, sources);
    // A later source replaces an earlier one.
    let mut given: BTreeMap<String, Given> = given.into_iter().map(|given| (given.key.clone(), given)).collect();

    // Each value is tried alone among the defaults: so an error names its setting, and no error hides another.
    for Given { key, value, origin } in given.values() {
        let mut table = document.defaults();
        set(&mut table, key, value.clone());
        if let Err(error) = read(table) {
            let message = match origin {
                Origin::OwnFile(..) => "what stands there is not what this setting takes".to_owned(),
                _ => error,
            };
            problems.push(Problem { origin: origin.to_string(), ..Problem::new(key, message) });
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let effective = document.settings().map(|setting| {
        let (value, origin) = given
            .remove(&setting.key)
            .map_or_else(|| (setting.default.clone(), Origin::Default), |given| (given.value, given.origin));
        let (needs_restart, is_secret) = (setting.needs_restart(), setting.is_secret());
        Effective { key: setting.key.clone(), origin, needs_restart, is_secret, value }
    });
    finish(effective.collect())
}

/// Builds a configuration from settings that are valid one by one, and checks how they relate.
pub(super) fn finish(settings: Vec<Effective>) -> Result<Loaded, Problems> {
    let mut table = Table::new();
    for setting in &settings {
        set(&mut table, &setting.key, setting.value.clone());
    }
    let config = read(table).map_err(|error| Problems(vec![Problem::new("settings", error)]))?;
    let mut problems = validate(&config);
    for problem in &mut problems {
        let origin = settings.iter().find(|setting| setting.key == problem.setting).map(|setting| &setting.origin);
        problem.origin = origin.filter(|origin| **origin != Origin::Default).map(Origin::to_string).unwrap_or_default();
    }
    if problems.is_empty() { Ok(Loaded { config: Arc::new(config), settings }) } else { Err(Problems(problems)) }
}

fn read(table: Table) -> Result<Config, String> {
    // The message may repeat a value, and a URL in the wrong setting may hold a password.
    table.try_into().map_err(|error: toml::de::Error| redact(error.message()))
}
