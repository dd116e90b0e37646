//! Texts that may hold a secret. Their types show them without it.

use serde::Deserialize;
use std::fmt;

/// A URL that may hold a password. `Debug` and `Display` leave the password out; only [`expose`](Self::expose) returns
/// it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Redacted(String);

impl Redacted {
    /// Wraps a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password, to connect with. Never log it.
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

/// A text that is a secret from its first character to its last. `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret, to compare with. Never log it.
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

/// `text` with `***` for what may be a secret in a URL: the part between the user's name and the last `@`, and every
/// query parameter whose name suggests a secret.
pub fn redact(text: &str) -> String {
    let Some(scheme) = text.find("://") else { return text.to_owned() };
    let (head, rest) = text.split_at(scheme + 3);
    // The parameters first: an `@` inside a secret one would be taken for the end of a password.
    let shown = without_secret_parameters(rest);

    // Up to the last `@`, not to the first slash or question mark: a password with one that is not escaped is a fault,
    // but still a secret.
    if let Some((user_info, host)) = shown.rsplit_once('@') {
        return match user_info.split_once(':') {
            Some((user, _)) => format!("{head}{user}:***@{host}"),
            None => format!("{head}{shown}"),
        };
    }

    let (authority, parameters) = shown.split_once('?').unwrap_or((&shown, ""));
    match authority.split_once(':') {
        // The `@` was inside a parameter that is now hidden. It may also have ended a password with a `?` in it, unless
        // the text after the colon is a port.
        Some((user, password)) if rest.contains('@') && !begins_with_a_port(password) => {
            format!("{head}{user}:***?{parameters}")
        }
        _ => format!("{head}{shown}"),
    }
}

fn without_secret_parameters(text: &str) -> String {
    let Some((path, query)) = text.split_once('?') else { return text.to_owned() };
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if names_a_secret(name) => format!("{name}=***"),
        _ => parameter.to_owned(),
    });
    format!("{path}?{}", parameters.collect::<Vec<_>>().join("&"))
}

fn begins_with_a_port(text: &str) -> bool {
    let digits = text.split('/').next().unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
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
            ("postgres://db/r?user=a&password=hunt@er2", "postgres://db/r?user=a&password=***"),
            ("postgres://db:5432/r?password=hunt@er2&x=1", "postgres://db:5432/r?password=***&x=1"),
            ("postgres://relay:hunter2@db/r?sslpassword=hunt@er2", "postgres://relay:***@db/r?sslpassword=***"),
            ("postgres://relay:hu?nt@er2@db/relay", "postgres://relay:***@db/relay"),
            ("postgres://relay:hu?nt&er2@db/r?password=hunt@er2", "postgres://relay:***@db/r?password=***"),
            ("postgres://relay:hunter2?key=hunt@db/relay", "postgres://relay:***?key=***"),
            ("postgres://db/r?user=a@b&password=hunter2", "postgres://db/r?user=a@b&password=***"),
        ] {
            assert_eq!(redact(text), shown);
            assert_eq!(Redacted::new(text).to_string(), shown);
            assert!(!format!("{:?}", Redacted::new(text)).contains("hunter2"));
        }
    }
}
