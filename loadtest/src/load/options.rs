//! What to run: a workload and its numbers.

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
    /// Closed loop: each publishing connection has this many events without an OK. No figure of it is free of
    /// coordinated omission; it tells the greatest rate.
    InFlight(usize),
}

/// One run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The relay's URLs; connections take them in turn.
    pub urls: Vec<String>,
    /// What the connections do.
    pub workload: Workload,
    /// How many there are.
    pub connections: usize,
    /// For how long events are published and questions asked.
    pub duration: Duration,
    /// How fast.
    pub pace: Pace,
    /// Events at most; none for as many as the duration and the pace want.
    pub events: Option<u64>,
    /// Of all that is random.
    pub seed: u64,
    /// How many people write.
    pub authors: usize,
    /// Threads, each with its own connections.
    pub threads: usize,
    /// Source addresses, taken in turn; empty for the system's choice, or enough of 127.0.0.0/8 for a relay there.
    pub sources: Vec<IpAddr>,
    /// What has not come after this long is lost.
    pub patience: Duration,
    /// What has come later than this is late.
    pub late_after: Duration,
    /// Real events to publish, as JSON lines.
    pub replay: Option<PathBuf>,
    /// How many events `loadtest fill` wrote with the same seed, for questions about them.
    pub filled: usize,
    /// How many people wrote those.
    pub filled_authors: usize,
    /// The newest of those, in unix seconds.
    pub filled_until: u64,
    /// True to ask every question once before the run.
    pub warm: bool,
    /// True to ask at the end, author by author, for every event that got an OK.
    pub check_stored: bool,
}

/// What a workload is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    /// Connections that publish; none for all.
    pub(super) publishers: Option<usize>,
    pub(super) publishes: bool,
    pub(super) gathering: Gathering,
    /// Questions for each event.
    pub(super) questions: usize,
    /// Seconds between two reconnects of one connection, on average.
    pub(super) reconnect_every: Option<f64>,
    /// How often everyone reconnects at once.
    pub(super) storms: u32,
    /// One of so many subscribers never reads.
    pub(super) never_reads_one_in: Option<usize>,
}

/// Who subscribes to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gathering {
    Nobody,
    /// Everyone to some authors and to mentions of one.
    Feeds,
    /// Everyone but the publishers to all events.
    Everyone,
}

/// Publishers of `fanout` and `slow`.
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
    /// How many events the run wants, where that is known.
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

/// The relay beside a run: its processes and its operator's addresses.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// What the report calls it.
    pub name: String,
    /// The relay's processes, where they run on this machine.
    pub pids: Vec<u32>,
    /// Where the relay's metrics are.
    pub metrics_url: Option<String>,
    /// Where its caches are purged.
    pub admin_url: Option<String>,
    /// What allows that.
    pub admin_token: Option<String>,
    /// Whether they are purged, or warmed, first.
    pub cache: Option<Cache>,
}
