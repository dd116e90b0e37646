//! What a cache keeps of one filter.

use crate::types::{Head, Row};

/// The newest events of one filter, exactly as of `head`. Some may have expired since: that is for the reader to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The rows hold the log up to here and nothing later.
    pub head: Head,
    /// At most so many rows were asked for.
    pub limit: usize,
    /// Newest first, ties by lowest id; each once.
    pub rows: Vec<Row>,
    /// True when nothing older matches: the rows are all there is.
    pub complete: bool,
}
