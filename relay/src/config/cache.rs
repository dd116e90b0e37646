//! `[cache]`: which answers are kept in memory.

use super::values;
use serde::Deserialize;
use std::time::Duration;

/// `[cache]`: which answers are kept in memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    /// Whether this instance keeps answers of its own.
    pub l1: bool,
    /// About how many bytes of them.
    pub l1_bytes: usize,
    /// Whether instances share answers in Redis.
    pub l2: bool,
    /// For how long a shared answer is kept.
    #[serde(rename = "l2_lifetime_seconds", deserialize_with = "values::seconds")]
    pub l2_lifetime: Duration,
    /// The most that a query waits for Redis.
    #[serde(rename = "l2_patience_milliseconds", deserialize_with = "values::milliseconds")]
    pub l2_patience: Duration,
}
