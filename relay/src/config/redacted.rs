//! Text that may hold a password: shown without it.

use serde::Deserialize;
use std::fmt;

/// A URL that may hold a password. `Debug` and `Display` show it without; only [`expose`](Self::expose) gives it away.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Redacted(String);

impl Redacted {
    /// Wraps a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password, for whoever connects to it. Not for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True for the empty text: no URL.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", redact(&self.0))
    }
}

/// A text that is a secret as a whole. `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret, for whoever compares it. Not for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True for the empty text: no secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

/// `text` with what may be a secret in a URL replaced by `***`: the part between the user's name and the last `@`,
/// and every query parameter whose name speaks of a secret.
pub fn redact(text: &str) -> String {
    let Some(scheme) = text.find("://") else { return text.to_owned() };
    let (head, rest) = text.split_at(scheme + 3);
    // Up to the last `@`, not to the first slash: a password with an unescaped slash is a fault, but still a secret.
    let (user_info, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let mut out = head.to_owned();
    if let Some(user_info) = user_info {
        match user_info.split_once(':') {
            Some((user, _)) => out.extend([user, ":***@"]),
            None => out.extend([user_info, "@"]),
        }
    }
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    out.push_str(path);
    let mut separator = '?';
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        out.push(separator);
        separator = '&';
        match parameter.split_once('=') {
            Some((name, _)) if names_a_secret(name) => out.extend([name, "=***"]),
            _ => out.push_str(parameter),
        }
    }
    out
}

fn names_a_secret(parameter: &str) -> bool {
    let parameter = parameter.to_ascii_lowercase();
    ["pass", "secret", "token", "key"].iter().any(|word| parameter.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (text, shown) in [
            ("sqlite:relay.db", "sqlite:relay.db"),
            ("postgres://relay:hunter2@db:5432/relay", "postgres://relay:***@db:5432/relay"),
            ("postgres://relay:hu/nt@er2@db/relay", "postgres://relay:***@db/relay"),
            ("redis://:hunter2@cache", "redis://:***@cache"),
            ("postgres://relay@db/relay", "postgres://relay@db/relay"),
            ("postgres://db/r?user=a&password=hunter2&x=1", "postgres://db/r?user=a&password=***&x=1"),
        ] {
            assert_eq!(redact(text), shown);
            assert_eq!(Redacted::new(text).to_string(), shown);
            assert!(!format!("{:?}", Redacted::new(text)).contains("hunter2"));
        }
    }
}
