//! Log lines and metrics. A leaf: a station gets the handles that it uses.
//!
//! Each relay has a recorder of its own, not a global one: so the numbers of several relays in one process, as in
//! tests, do not mix.

mod catalogue;
mod document;
mod exporter;
mod journeys;
mod labels;
mod logging;
mod notes;
mod rate;
mod repeats;
mod series;

pub use catalogue::{CATALOGUE, Metric, Metrics};
pub use document::document;
pub use exporter::Exporter;
pub use journeys::{Journeys, Trace};
pub use labels::{
    AcmeOrder, Build, BusTraffic, CacheLayer, CacheResult, Class, ClientBytes, CloseReason, ConnectionOutcome,
    Direction, EntrySource, EventOutcome, MessageType, Operation, ReadSource, Reason, RemovedBy, ServerRole,
    ServerState, SharedLook, SharedWrite, Shed, Stage, Task, TlsHandshake,
};
pub use logging::{LogControl, LogError, init_logging};
pub use notes::{Notes, SlowQuery, Talker};
pub use rate::Rate;
pub use series::{By, ByName, ByTwo, Label, LabelFacts, MetricKind, Series};
