//! What the relay tells about its work: log lines and metrics. A leaf: stations are handed what they use.
//!
//! Metrics are counted in a recorder of their own, not in a global one: several relays in one process, as in tests,
//! do not mix their numbers.

mod catalogue;
mod exporter;
mod labels;
mod logging;
mod rate;
mod series;

pub use catalogue::{CATALOGUE, Metric, Metrics};
pub use exporter::Exporter;
pub use labels::{
    Build, BusTraffic, CacheLayer, CacheResult, CloseReason, ConnectionOutcome, EntrySource, EventOutcome, MessageType,
    Operation, Reason, RemovedBy, ServerRole, ServerState,
};
pub use logging::{LogControl, LogError, init_logging};
pub use rate::Rate;
pub use series::{By, Grid, Kind, Label, Series};
