//! Admission: pure rules over what was parsed, the cheap ones first. No I/O, no clock, no state, so a test says it all.

mod auth;
mod read;
mod rules;
#[cfg(test)]
mod tests;
mod vanish;
mod write;

pub use auth::{MAX_AUTH_AGE_SECONDS, OwnUrls, RelayUrl, RelayUrlError, check_auth};
pub use read::{check_read, check_reader};
pub use rules::Rules;
pub use vanish::check_vanish;
pub use write::{MALFORMED_EXPIRATION, check};
