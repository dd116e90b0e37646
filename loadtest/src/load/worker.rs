//! The state of one thread of the load: its connections, its figures, its part of the ledger.

use super::Options;
use super::ledger::Ledger;
use super::options::{Gathering, Mix};
use super::peer::Peer;
use super::recorder::{Recorder, Tick};
use super::subscriber_plan::SubscriberPlan;
use super::timeline::Timeline;
use crate::bench::Question;
use crate::client::{Client, ClientError, Scratch, Target};
use crate::events::{Authors, Random, Zipf};
use crate::system::thread_cpu;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, mpsc, watch};

/// Connections that one thread opens at the same time.
const CONCURRENT_CONNECTS: usize = 32;
const SECOND: u64 = 1_000_000_000;

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadPhase {
    /// Opens the connections.
    Connect,
    /// Asks every question once.
    Warm,
    /// Runs the schedule; carries when it begins, in nanoseconds since the origin.
    Run(u64),
    /// Sends nothing new; waits for deliveries and answers.
    Drain,
    /// Settles the accounts and looks for the stored events.
    Check,
    Stop,
}

/// The state that all threads share.
#[derive(Debug)]
pub(super) struct LoadShared {
    pub(super) options: Options,
    pub(super) targets: Vec<Target>,
    pub(super) sources: Vec<IpAddr>,
    pub(super) timeline: Timeline,
    /// The origin of all times.
    pub(super) origin: Instant,
    /// When the timeline begins, in unix seconds.
    pub(super) unix: u64,
    pub(super) keys: super::subscriber_plan::PubkeysByRank,
    pub(super) people: Zipf,
    /// The questions of the query workload, each with its class when it is asked for the first time (cold); the class
    /// after that is for later times (hot).
    pub(super) questions: Vec<(u8, Question)>,
    pub(super) classes: Vec<String>,
    /// True when events have the dates of the timeline, so that `since` finds missed ones.
    pub(super) dated: bool,
    pub(super) gauges: Vec<Gauge>,
    /// Replayed events, until they are in the timeline.
    pub(super) replay: parking_lot::Mutex<Vec<super::timeline::Planned>>,
    /// The keys that sign generated events; `None` for replayed ones.
    pub(super) authors: Option<Authors>,
}

/// A thread's state that the coordinator can read at any time.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Connections that are live.
    pub(super) live: AtomicUsize,
    /// Connections that are live, and those that failed too often to wait for.
    pub(super) settled: AtomicUsize,
    /// Deliveries and answers still to come, plus 1; 0: the thread has not counted yet.
    pub(super) outstanding: AtomicU64,
    /// How many phases it has completed, of those that last until all threads have: `Warm` and `Check`.
    pub(super) done: AtomicUsize,
    /// True once the thread has nothing more to publish.
    pub(super) exhausted: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Arc<LoadShared>,
    pub(super) thread: usize,
    pub(super) mix: Mix,
    pub(super) ledger: RefCell<Ledger>,
    pub(super) recorder: RefCell<Recorder>,
    pub(super) peers: Vec<Peer>,
    /// The connections that publish.
    pub(super) publishers: Vec<u32>,
    pub(super) scratch: Scratch,
    pub(super) connect_permits: Semaphore,
    pub(super) phase: watch::Receiver<LoadPhase>,
    pub(super) random: RefCell<Random>,
    /// In a closed loop, the connections that may send one more event.
    pub(super) peers_with_capacity: RefCell<std::collections::VecDeque<u32>>,
    pub(super) room: Notify,
    slots: u32,
    cpu: Cell<Duration>,
}

impl Worker {
    pub(super) fn new(shared: Arc<LoadShared>, thread: usize, phase: watch::Receiver<LoadPhase>) -> Self {
        let options = &shared.options;
        let mix = options.workload.mix();
        let globals = (thread..options.connections).step_by(options.threads).collect::<Vec<_>>();
        // Each thread needs a publisher: it owns the events of some authors.
        let publishes = |global: usize| mix.publishers.is_none_or(|few| global < few.max(options.threads));
        let subscribes = globals
            .iter()
            .map(|global| match mix.gathering {
                Gathering::Nobody => false,
                Gathering::Feeds => true,
                Gathering::Everyone => !publishes(*global),
            })
            .collect::<Vec<_>>();
        let never_reads =
            globals.iter().map(|global| mix.never_reads_one_in.is_some_and(|one_in| global % one_in == one_in - 1));
        let never_reads = never_reads
            .zip(&subscribes)
            .map(|(never_reads, subscribes)| never_reads && *subscribes)
            .collect::<Vec<_>>();

        let mut random = Random::new(options.seed ^ (thread as u64 + 1).wrapping_mul(0x9e37_79b9));
        let keys = (shared.keys.clone(), &shared.people);
        let subscriber_plan = SubscriberPlan::new(mix.gathering, keys, &subscribes, options.connections, &mut random);
        let slots = subscriber_plan.slots();
        let peers = globals.iter().enumerate().map(|(index, global)| Peer {
            index: index as u32,
            global: *global,
            url: (global % shared.targets.len()) as u16,
            subscribes: subscribes[index],
            never_reads: never_reads[index],
            ..Peer::default()
        });
        let late_after = options.late_after.as_nanos() as u64;
        Self {
            ledger: RefCell::new(Ledger::new(subscriber_plan, &subscribes, &never_reads, late_after)),
            recorder: RefCell::new(Recorder::new(shared.classes.len())),
            peers: peers.collect(),
            publishers: (0..globals.len() as u32).filter(|index| publishes(globals[*index as usize])).collect(),
            scratch: Scratch::new(),
            connect_permits: Semaphore::new(CONCURRENT_CONNECTS),
            phase,
            random: RefCell::new(random),
            peers_with_capacity: RefCell::default(),
            room: Notify::new(),
            slots,
            cpu: Cell::new(thread_cpu()),
            thread,
            mix,
            shared,
        }
    }

    /// Nanoseconds since the origin, never 0.
    pub(super) fn now(&self) -> u64 {
        self.shared.origin.elapsed().as_nanos() as u64 + 1
    }

    pub(super) fn peer(&self, index: u32) -> &Peer {
        &self.peers[index as usize]
    }

    /// How many subscriptions a subscribing connection has.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) async fn connect(&self, peer: &Peer) -> Result<Client, ClientError> {
        let sources = &self.shared.sources;
        let from = (!sources.is_empty()).then(|| sources[peer.global % sources.len()]);
        Client::connect(&self.shared.targets[usize::from(peer.url)], from).await
    }

    /// The `since` with which a subscription asks for stored events: its account may still wait for events after it.
    pub(super) fn catch_up_from(&self) -> Option<u64> {
        let since = match *self.phase.borrow() {
            LoadPhase::Run(start) => {
                let ran = self.now().saturating_sub(start) / SECOND;
                ran.saturating_sub(self.shared.options.patience.as_secs() + 2)
            }
            _ => 0,
        };
        self.shared.dated.then_some(self.shared.unix + since)
    }

    /// Notes that a connection is open: in a closed loop it may now send as many events as the pace says.
    pub(super) fn opened(&self, peer: &Peer) {
        if let super::Pace::InFlight(most) = self.shared.options.pace
            && self.publishers.binary_search(&peer.index).is_ok()
        {
            self.peers_with_capacity.borrow_mut().extend(std::iter::repeat_n(peer.index, most));
            self.room.notify_one();
        }
    }

    /// Notes the OK of one of a connection's events.
    pub(super) fn made_room(&self, peer: &Peer) {
        peer.in_flight.set(peer.in_flight.get().saturating_sub(1));
        if matches!(self.shared.options.pace, super::Pace::InFlight(_)) {
            self.peers_with_capacity.borrow_mut().push_back(peer.index);
            self.room.notify_one();
        }
    }

    pub(super) fn gauge(&self) -> &Gauge {
        &self.shared.gauges[self.thread]
    }

    pub(super) fn look(&self) {
        let live = self.peers.iter().filter(|peer| peer.live.get()).count();
        let settled = self.peers.iter().filter(|peer| peer.live.get() || peer.gave_up.get()).count();
        self.gauge().live.store(live, Ordering::Release);
        self.gauge().settled.store(settled, Ordering::Release);
    }

    pub(super) fn done(&self) {
        self.gauge().done.fetch_add(1, Ordering::AcqRel);
    }

    /// Sends a second's figures to the coordinator. Where its channel is full they count in the next second.
    pub(super) fn tick(&self, second: usize, ticks: &mpsc::Sender<Tick>) {
        self.look();
        if let Ok(place) = ticks.try_reserve() {
            let mut tick = self.recorder.borrow_mut().take_tick();
            let cpu = thread_cpu();
            tick.cpu = cpu.saturating_sub(self.cpu.replace(cpu));
            (tick.second, tick.thread) = (second, self.thread);
            tick.live = self.gauge().live.load(Ordering::Acquire);
            place.send(tick);
        }
        let patience = self.shared.options.patience.as_nanos() as u64;
        self.ledger.borrow_mut().settle(self.now().saturating_sub(patience), false);
    }

    pub(super) fn questions_left(&self) -> u64 {
        self.peers.iter().map(|peer| peer.asked.borrow().len() as u64).sum()
    }
}
