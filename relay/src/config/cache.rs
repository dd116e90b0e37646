//! `[cache]`: which answers are kept in memory.

use serde::Deserialize;

/// `[cache]`: which answers are kept in memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Whether this instance keeps answers of its own.
    pub l1: bool,
    /// About how many bytes of them.
    pub l1_bytes: usize,
}
