//! The problems of the settings. All are reported at once, so that the operator can fix them in one pass.

use std::fmt;

/// One problem: the setting, where its value came from, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting as `section.key`, or the file or variable that is at fault.
    pub setting: String,
    /// Where the value came from, as text for the operator; empty where `setting` says it.
    pub origin: String,
    /// What is wrong and how to fix it.
    pub message: String,
}

impl Problem {
    pub(super) fn new(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self { setting: setting.into(), origin: String::new(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.setting)?;
        if !self.origin.is_empty() && self.origin != self.setting {
            write!(f, " (from {})", self.origin)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All problems of the settings; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}
