//! The role of a server.

use serde::Serialize;

/// The role that a server reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Not probed yet, or it has not answered for a while.
    Unknown,
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica,
}
