//! The options of a run: a workload and its numbers.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What the connections do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// A mix like the public network's: every connection follows people and its own mentions, each event matches 20
    /// subscriptions on average and is accompanied by four questions (feed, profile, thread, mentions), and every
    /// connection reconnects each five minutes on average
    Standard,
    /// New events only, as fast as their OKs come back (--in-flight), or at --rate where one is given
    Publish,
    /// Questions only, each shape of filter cold and hot, about the events of `loadtest fill`
    Query,
    /// Four publishers, everyone else subscribes to all of them
    Fanout,
    /// Connections that do nothing
    Idle,
    /// The standard mix without questions; everyone reconnects at once, twice
    Storm,
    /// As fanout; every tenth subscriber never reads
    Slow,
    /// The standard mix for an hour
    Soak,
}

/// How a run treats the relay's caches first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Asks the relay to purge them (POST /cache/purge at --admin-url)
    Cold,
    /// Asks every question once before any is measured
    Warm,
    /// Two runs, cold and warm, and a picture that compares them
    Both,
}

/// Events a second, or as many as come back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Open loop: this many a second, whatever comes back.
    Rate(f64),
    /// Closed loop: each publishing connection has this many events without an OK. It measures the greatest rate; its
    /// latencies suffer from coordinated omission.
    InFlight(usize),
}

/// One run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The relay's URLs; connections take them in turn.
    pub urls: Vec<String>,
    /// What the connections do.
    pub workload: Workload,
    /// The number of connections.
    pub connections: usize,
    /// How long events are published and questions asked.
    pub duration: Duration,
    /// The rate of events.
    pub pace: Pace,
    /// The most events; `None`: as many as the duration and the pace need.
    pub events: Option<u64>,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The number of authors.
    pub authors: usize,
    /// Threads, each with its own connections.
    pub threads: usize,
    /// Source addresses, taken in turn; empty: the system's choice, or enough of 127.0.0.0/8 for a relay on loopback.
    pub sources: Vec<IpAddr>,
    /// A delivery that takes longer counts as lost.
    pub patience: Duration,
    /// A delivery that takes longer counts as late.
    pub late_after: Duration,
    /// Real events to publish, as JSON lines.
    pub replay: Option<PathBuf>,
    /// How many events `loadtest fill` wrote with the same seed, for questions about them.
    pub filled: usize,
    /// The number of their authors.
    pub filled_authors: usize,
    /// The date of the newest of them, in unix seconds.
    pub filled_until: u64,
    /// True to ask every question once before the run.
    pub warm: bool,
    /// True to ask at the end, author by author, for every event that got an OK.
    pub check_stored: bool,
}

/// The parts of a workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    /// How many connections publish; `None`: all.
    pub(super) publishers: Option<usize>,
    pub(super) publishes: bool,
    pub(super) gathering: Gathering,
    /// The number of questions with each event.
    pub(super) questions: usize,
    /// Seconds between two reconnects of one connection, on average.
    pub(super) reconnect_every: Option<f64>,
    /// How often all connections reconnect at once.
    pub(super) storms: u32,
    /// One subscriber in this many never reads.
    pub(super) never_reads_one_in: Option<usize>,
}

/// What the connections subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gathering {
    Nobody,
    /// Each connection to some authors, and to mentions of one.
    Feeds,
    /// Each connection that does not publish to all events.
    Everyone,
}

/// The number of publishers of `fanout` and `slow`.
pub(super) const FEW_PUBLISHERS: usize = 4;

impl Workload {
    pub(super) fn mix(self) -> Mix {
        let quiet = Mix {
            publishers: None,
            publishes: true,
            gathering: Gathering::Nobody,
            questions: 0,
            reconnect_every: None,
            storms: 0,
            never_reads_one_in: None,
        };

        let social = Mix { gathering: Gathering::Feeds, ..quiet };
        let fanout = Mix { publishers: Some(FEW_PUBLISHERS), gathering: Gathering::Everyone, ..quiet };
        match self {
            Self::Standard | Self::Soak => Mix { questions: 4, reconnect_every: Some(300.0), ..social },
            Self::Storm => Mix { storms: 2, ..social },
            Self::Publish => quiet,
            Self::Fanout => fanout,
            Self::Slow => Mix { never_reads_one_in: Some(10), ..fanout },
            Self::Idle | Self::Query => Mix { publishes: false, ..quiet },
        }
    }
}

impl Options {
    /// How many events the run needs, where that is known.
    pub(super) fn wanted(&self) -> Option<u64> {
        let scheduled = match self.pace {
            Pace::Rate(rate) => Some((rate * self.duration.as_secs_f64()).round() as u64),
            Pace::InFlight(_) => None,
        };
        scheduled.into_iter().chain(self.events).min()
    }

    /// How many author keys the run's events need.
    pub(super) fn author_count(&self) -> usize {
        if self.workload.mix().publishers.is_some() { FEW_PUBLISHERS } else { self.authors }
    }
}

/// The relay under test: its processes and its operator's addresses.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Its name in the report.
    pub name: String,
    /// The relay's processes, where they run on this machine.
    pub pids: Vec<u32>,
    /// The URL of its metrics.
    pub metrics_url: Option<String>,
    /// The URL of its admin listener, which purges its caches.
    pub admin_url: Option<String>,
    /// Its `admin.token`, which a purge needs.
    pub admin_token: Option<String>,
    /// Whether its caches are purged, or warmed, before the run.
    pub cache: Option<Cache>,
}
