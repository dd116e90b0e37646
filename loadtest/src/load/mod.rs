//! The load: many connections, an open loop, and a ledger of every delivery.
//!
//! A run has one coordinator ([`run`]) and some threads (`thread`), each with its own connections, its own runtime and
//! its part of the ledger; `worker` is their state, which `schedule`, `session` and `side_queries` share. The `signer`,
//! a thread of its own, makes and signs events ahead into a `timeline` that all threads see; each event belongs to the
//! thread of its author. A thread's `schedule` sends what is due, whatever answers have come, by a timer exact to about
//! ten microseconds; latency begins when an event or a question is due. `subscriber_plan` knows which subscriptions an
//! event must reach, `ledger` which it has reached.

mod ledger;
mod options;
mod peer;
mod recorder;
mod run;
mod schedule;
mod scrape;
mod session;
mod side_queries;
mod signer;
mod subscriber_plan;
mod summary;
mod thread;
mod timeline;
mod timer;
mod totals;
mod watch;
mod worker;

pub use options::{Cache, Options, Pace, Surroundings, Workload};
pub use recorder::Counts;
pub use run::{LoadError, Watcher, run};
pub use scrape::{get, purge, samples, series};
pub use signer::ReplayError;
pub use totals::Totals;

/// How many rows a subscription asks for when it catches up: the most that relays usually return.
const CATCH_UP: usize = 500;
