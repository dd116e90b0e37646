//! Helpers of the settings' checks.

use super::error::Problem;

/// Collects problems.
#[derive(Default)]
pub(super) struct Check(Vec<Problem>);

impl Check {
    /// The problems of all failed checks.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.0
    }

    pub(super) fn that(&mut self, holds: bool, setting: &str, otherwise: impl Into<String>) {
        if !holds {
            self.0.push(Problem::new(setting, otherwise));
        }
    }

    pub(super) fn above_zero(&mut self, values: &[(&str, usize)]) {
        for (setting, value) in values {
            self.that(*value > 0, setting, "must be at least 1");
        }
    }
}

/// True for an absolute URL of one of `schemes` that names a host and holds no user, query or fragment.
pub(super) fn is_url(text: &str, schemes: &[&str]) -> bool {
    let Ok(url) = text.parse::<hyper::Uri>() else { return false };
    let host = url.authority().is_some_and(|authority| !authority.host().is_empty() && !text.contains('@'));
    url.scheme_str().is_some_and(|scheme| schemes.contains(&scheme)) && host && !text.contains(['?', '#'])
}
