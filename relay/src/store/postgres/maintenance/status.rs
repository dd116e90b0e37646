//! The maintenance's counters, for metrics.

/// What the maintenance of this instance has done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaintenanceStatus {
    /// This instance is the leader.
    pub elected: bool,
    /// Partitions of the coming days and months that could not be made.
    pub missing: u64,
    /// Partitions that were made.
    pub made: u64,
    /// Partitions that were dropped.
    pub dropped: u64,
    /// Events that were removed because of their age.
    pub removed: u64,
    /// Rounds that failed; the next one tries again.
    pub failures: u64,
}
