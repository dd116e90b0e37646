//! What an operator is told of the maintenance.

/// What the keeper of this instance has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaintenanceStatus {
    /// It is the one that keeps.
    pub elected: bool,
    /// Partitions of the coming days and months that it could not make.
    pub missing: u64,
    /// Partitions that it made.
    pub made: u64,
    /// Partitions that it dropped.
    pub dropped: u64,
    /// Events that it removed because of their age.
    pub removed: u64,
    /// Rounds that failed; the next one tries again.
    pub failures: u64,
}
