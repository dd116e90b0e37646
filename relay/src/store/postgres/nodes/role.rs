//! What part a server plays.

use serde::Serialize;

/// What a server is, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Not asked yet, or it has not answered for a while.
    Unknown,
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica,
}
