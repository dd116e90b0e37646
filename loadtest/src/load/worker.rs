//! One thread of the load: its connections, its share of the schedule, its part of the ledger.

use super::agenda::Agenda;
use super::audience::Audience;
use super::errand;
use super::ledger::Ledger;
use super::options::{Gathering, Mix};
use super::peer::{self, Peer};
use super::recorder::{Recorder, Tick};
use super::story::Story;
use super::timer::Timer;
use super::{Options, Totals};
use crate::bench::Question;
use crate::client::{Client, ClientError, Scratch, Target};
use crate::events::{Authors, Random, Zipf};
use crate::stats::Latency;
use crate::system::thread_cpu;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::LocalSet;

/// Handshakes of one thread at the same time.
const DOORS: usize = 32;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const SECOND: u64 = 1_000_000_000;

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connections are made.
    Connect,
    /// Every question is asked once.
    Warm,
    /// The schedule runs; carries when it began, in nanoseconds since the origin.
    Run(u64),
    /// Nothing new is sent.
    Drain,
    /// The accounts are settled and the stored events looked for.
    Check,
    Stop,
}

/// What all threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) targets: Vec<Target>,
    pub(super) sources: Vec<IpAddr>,
    pub(super) story: Story,
    /// The zero of all times.
    pub(super) origin: Instant,
    /// When the story begins, in unix seconds.
    pub(super) unix: u64,
    pub(super) keys: super::audience::Keys,
    pub(super) people: Zipf,
    /// Questions of the query workload, with their class when asked for the first time; the next class is for later.
    pub(super) questions: Vec<(u8, Question)>,
    pub(super) classes: Vec<String>,
    /// True when events are dated by the story and `since` finds the missed.
    pub(super) dated: bool,
    pub(super) gauges: Vec<Gauge>,
    /// Real events, until they are in the story.
    pub(super) replay: parking_lot::Mutex<Vec<super::story::Planned>>,
    /// The keys that sign, where events are made.
    pub(super) authors: Option<Authors>,
}

/// What a thread tells at any time.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Connections that are live.
    pub(super) live: AtomicUsize,
    /// Those, and the ones that failed too often.
    pub(super) settled: AtomicUsize,
    /// Deliveries and answers still to come, plus 1; 0 before it has looked.
    pub(super) outstanding: AtomicU64,
    /// How many of the phases that are over when their work is done it has done: warming, checking.
    pub(super) done: AtomicUsize,
    /// True once it has nothing more to publish.
    pub(super) exhausted: AtomicBool,
}

/// What a thread found.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) totals: Totals,
    pub(super) recorder: Recorder,
    /// Why the look at what is stored failed, where it did.
    pub(super) check_failed: Option<String>,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: usize,
    pub(super) mix: Mix,
    pub(super) ledger: RefCell<Ledger>,
    pub(super) recorder: RefCell<Recorder>,
    pub(super) peers: Vec<Peer>,
    /// The connections that publish.
    pub(super) publishers: Vec<u32>,
    pub(super) scratch: Scratch,
    pub(super) doors: Semaphore,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) random: RefCell<Random>,
    /// Connections that may send one more event, in a closed loop.
    pub(super) roomy: RefCell<std::collections::VecDeque<u32>>,
    pub(super) room: Notify,
    slots: u32,
    cpu: Cell<Duration>,
}

impl Worker {
    fn new(shared: Arc<Shared>, thread: usize, phase: watch::Receiver<Phase>) -> Self {
        let options = &shared.options;
        let mix = options.workload.mix();
        let globals = (thread..options.connections).step_by(options.threads).collect::<Vec<_>>();
        // Each thread has a publisher at least, since it owns the events of some authors.
        let publishes = |global: usize| mix.publishers.is_none_or(|few| global < few.max(options.threads));
        let subscribes = globals
            .iter()
            .map(|global| match mix.audience {
                Gathering::Nobody => false,
                Gathering::Feeds => true,
                Gathering::Everyone => !publishes(*global),
            })
            .collect::<Vec<_>>();
        let deaf = globals.iter().map(|global| mix.deaf_one_in.is_some_and(|one_in| global % one_in == one_in - 1));
        let deaf = deaf.zip(&subscribes).map(|(deaf, subscribes)| deaf && *subscribes).collect::<Vec<_>>();
        let mut random = Random::new(options.seed ^ (thread as u64 + 1).wrapping_mul(0x9e37_79b9));
        let keys = (shared.keys.clone(), &shared.people);
        let audience = Audience::new(mix.audience, keys, &subscribes, options.connections, &mut random);
        let slots = audience.slots();
        let peers = globals.iter().enumerate().map(|(index, global)| Peer {
            index: index as u32,
            global: *global,
            url: (global % shared.targets.len()) as u16,
            subscribes: subscribes[index],
            deaf: deaf[index],
            ..Peer::default()
        });
        let late_after = options.late_after.as_nanos() as u64;
        Self {
            ledger: RefCell::new(Ledger::new(audience, &subscribes, &deaf, late_after)),
            recorder: RefCell::new(Recorder::new(shared.classes.len())),
            peers: peers.collect(),
            publishers: (0..globals.len() as u32).filter(|index| publishes(globals[*index as usize])).collect(),
            scratch: Scratch::new(),
            doors: Semaphore::new(DOORS),
            phase,
            random: RefCell::new(random),
            roomy: RefCell::default(),
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

    /// Subscriptions of a connection that subscribes.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) async fn connect(&self, peer: &Peer) -> Result<Client, ClientError> {
        let sources = &self.shared.sources;
        let from = (!sources.is_empty()).then(|| sources[peer.global % sources.len()]);
        Client::connect(&self.shared.targets[usize::from(peer.url)], from).await
    }

    /// From when on a subscription asks for stored events: whatever may not be settled yet.
    pub(super) fn catch_up_from(&self) -> Option<u64> {
        let since = match *self.phase.borrow() {
            Phase::Run(start) => {
                let ran = self.now().saturating_sub(start) / SECOND;
                ran.saturating_sub(self.shared.options.patience.as_secs() + 2)
            }
            _ => 0,
        };
        self.shared.dated.then_some(self.shared.unix + since)
    }

    /// A connection is open: it may have as many events under way as the pace says.
    pub(super) fn opened(&self, peer: &Peer) {
        if let super::Pace::InFlight(most) = self.shared.options.pace
            && self.publishers.binary_search(&peer.index).is_ok()
        {
            self.roomy.borrow_mut().extend(std::iter::repeat_n(peer.index, most));
            self.room.notify_one();
        }
    }

    /// An event of a connection was answered.
    pub(super) fn made_room(&self, peer: &Peer) {
        peer.in_flight.set(peer.in_flight.get().saturating_sub(1));
        if matches!(self.shared.options.pace, super::Pace::InFlight(_)) {
            self.roomy.borrow_mut().push_back(peer.index);
            self.room.notify_one();
        }
    }

    fn gauge(&self) -> &Gauge {
        &self.shared.gauges[self.thread]
    }

    fn look(&self) {
        let live = self.peers.iter().filter(|peer| peer.live.get()).count();
        let settled = self.peers.iter().filter(|peer| peer.live.get() || peer.gave_up.get()).count();
        self.gauge().live.store(live, Ordering::Release);
        self.gauge().settled.store(settled, Ordering::Release);
    }

    fn done(&self) {
        self.gauge().done.fetch_add(1, Ordering::AcqRel);
    }

    /// What a second brought; kept for the next one when nobody takes it.
    pub(super) fn tick(&self, second: usize, ticks: &mpsc::Sender<Tick>) {
        self.peers.iter().for_each(|peer| peer::resubscribe(self, peer));
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

    async fn main(self: Rc<Self>, ticks: mpsc::Sender<Tick>) -> std::io::Result<Option<String>> {
        let timer = Timer::new()?;
        let mut phase = self.phase.clone();
        let mut agenda = Agenda::new(&self);
        let mut check_failed = None;
        loop {
            let now = *phase.borrow_and_update();
            match now {
                Phase::Connect => self.look(),
                Phase::Run(start) => {
                    agenda.run(&self, start, &timer, &mut phase, &ticks).await?;
                    continue;
                }
                Phase::Drain => {
                    self.tick(usize::MAX, &ticks);
                    let left = self.ledger.borrow().outstanding() + self.questions_left();
                    self.gauge().outstanding.store(left + 1, Ordering::Release);
                }
                Phase::Warm => {
                    let warmed = self.warm().await;
                    warmed.unwrap_or_else(|error| self.recorder.borrow_mut().error(&format!("warming: {error}")));
                    self.done();
                    let _ = phase.changed().await;
                    continue;
                }
                Phase::Check => {
                    self.tick(usize::MAX, &ticks);
                    self.ledger.borrow_mut().totals.questions_unanswered = self.questions_left();
                    self.ledger.borrow_mut().settle(0, true);
                    if self.shared.options.check_stored {
                        check_failed = self.check().await.err().map(|error| error.to_string());
                    }
                    self.done();
                    let _ = phase.changed().await;
                    continue;
                }
                Phase::Stop => return Ok(check_failed),
            }
            tokio::select! {
                waited = timer.until(Instant::now() + LOOK_EVERY) => waited?,
                changed = phase.changed() => if changed.is_err() { return Ok(check_failed) },
            }
        }
    }

    fn questions_left(&self) -> u64 {
        self.peers.iter().map(|peer| peer.asked.borrow().len() as u64).sum()
    }

    async fn warm(&self) -> Result<(), ClientError> {
        let Some(peer) = self.peers.first() else { return Ok(()) };
        let mine = self.shared.questions.iter().skip(self.thread).step_by(self.shared.options.threads);
        let mut client = self.connect(peer).await?;
        errand::ask_all(&mut client, &self.scratch, mine.map(|(_, question)| question.clone()), |_| ()).await
    }

    async fn check(&self) -> Result<(), ClientError> {
        let kept = self.ledger.borrow_mut().take_kept();
        let Some(peer) = self.peers.first().filter(|_| !kept.is_empty()) else { return Ok(()) };
        self.ledger.borrow_mut().totals.looked_for = kept.len() as u64;
        let mut client = self.connect(peer).await?;
        let key = |author: u32| self.shared.keys[author as usize].clone();
        // Real events have dates of their own.
        let since = if self.shared.dated { self.shared.unix } else { 0 };
        let missing = errand::missing(&mut client, &self.scratch, &kept, (since, key)).await?;
        self.ledger.borrow_mut().totals.not_stored = missing;
        Ok(())
    }
}

/// Runs one thread's part until the phase says stop.
pub(super) fn work(
    shared: Arc<Shared>,
    thread: usize,
    phase: watch::Receiver<Phase>,
    ticks: mpsc::Sender<Tick>,
) -> std::io::Result<Findings> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let worker = Rc::new(Worker::new(shared, thread, phase));
    for peer in &worker.peers {
        local.spawn_local(peer::live(worker.clone(), peer.index));
    }
    let check_failed = local.block_on(&runtime, worker.clone().main(ticks))?;
    drop(local);
    drop(runtime);
    let mut recorder = Recorder::new(0);
    std::mem::swap(&mut recorder, &mut worker.recorder.borrow_mut());
    let totals = worker.ledger.borrow().totals;
    Ok(Findings { totals, recorder, check_failed })
}

/// Merges each of one thread's classes into another's.
pub(super) fn merge_classes(into: &mut [Latency], from: &[Latency]) {
    into.iter_mut().zip(from).for_each(|(into, from)| into.merge(from));
}
