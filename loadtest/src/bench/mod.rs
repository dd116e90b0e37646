//! The measurements. Each runs in rounds; a round gives one [`Round`], the rounds of one figure a [`Row`].

mod cluster;
mod idle;
mod live;
mod meter;
mod plan;
mod publish;
mod query;
mod report;
mod shapes;
mod spawn;

pub use cluster::{Across, ClusterBench, ClusterReport, Cost, Part};
pub use idle::idle;
pub use live::{Live, LivePace, live};
pub use meter::{Faults, Meter, Round};
pub use plan::{Bench, Measurement, Where, progress};
pub use publish::{Publish, publish};
pub use query::{QuestionSchedule, query};
pub use report::{BenchReport, Bound, Row};
pub use shapes::{Question, Shape, questions};
pub use spawn::{Relay, Running, SpawnError};

use crate::client::{Client, ClientError, Scratch, Target};
use std::net::IpAddr;
use std::time::Duration;

/// How long a relay may be silent while an answer is due.
const SILENCE: Duration = Duration::from_secs(20);

/// The relay that a measurement connects to, and the source addresses that it connects from.
#[derive(Debug, Clone)]
pub struct Site {
    /// The relay.
    pub target: Target,
    /// Source addresses, taken in turn; the system's choice where there is none.
    pub sources: Vec<IpAddr>,
    /// The relay's process, where it is known, for its CPU time and memory.
    pub pid: Option<u32>,
    /// The read buffer of this thread.
    pub scratch: Scratch,
}

impl Site {
    /// Opens the connection number `index`.
    ///
    /// # Errors
    /// See [`Client::connect`].
    pub async fn connect(&self, index: usize) -> Result<Client, ClientError> {
        let from = (!self.sources.is_empty()).then(|| self.sources[index % self.sources.len()]);
        Client::connect(&self.target, from).await
    }
}
