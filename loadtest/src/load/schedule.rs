//! One thread's schedule, an open loop: it sends what is due, whatever answers have come.

use super::Pace;
use super::peer::Asked;
use super::recorder::Tick;
use super::session;
use super::timer::Timer;
use super::worker::{LoadPhase, Worker};
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

const SECOND: u64 = 1_000_000_000;
/// How soon something is tried again that found no open connection with room, in nanoseconds.
const RETRY: u64 = 5_000_000;
/// How much is sent at once before the connections' tasks get a turn.
const MOST_AT_ONCE: usize = 256;
/// How often a random choice is drawn again before it is given up.
const DRAWS: usize = 64;
/// How many questions of the query workload are asked cold before the same ones are asked hot.
const BLOCK: usize = 50;

/// The state of a thread's schedule. Times are nanoseconds since the run's start.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The next event: its chunk and its index there.
    next: (usize, usize),
    /// True when no more events will come.
    over: bool,
    /// The publisher to try next.
    turn: usize,
    /// The number of the thread's next question among all threads' questions.
    question: u64,
    name: u32,
    next_reconnect: u64,
    storms: u32,
    second: usize,
    text: String,
}

impl Schedule {
    pub(super) fn new(worker: &Worker) -> Self {
        Self {
            next: (0, 0),
            over: !worker.mix.publishes,
            turn: 0,
            question: worker.thread as u64,
            name: 0,
            next_reconnect: 0,
            storms: 0,
            second: 0,
            text: String::new(),
        }
    }

    /// Runs until the phase changes.
    pub(super) async fn run(
        &mut self,
        worker: &Worker,
        start: u64,
        timer: &Timer,
        phase: &mut watch::Receiver<LoadPhase>,
        ticks: &mpsc::Sender<Tick>,
    ) -> std::io::Result<()> {
        let length = worker.shared.options.duration.as_nanos() as u64;
        loop {
            let now = worker.now();
            let ran = now.saturating_sub(start);
            let mut next = (self.second as u64 + 1) * SECOND;
            if ran >= next {
                session::resubscribe_all(worker);
                worker.tick(self.second, ticks);
                self.second = (ran / SECOND) as usize;
                next = (self.second as u64 + 1) * SECOND;
            }

            if now < start {
                next = 0;
            } else {
                // What was due before the end is sent, even if late.
                next = next.min(self.publish(worker, start, ran));
                next = next.min(self.ask(worker, start, ran));
                if ran < length {
                    next = next.min(self.reconnect(worker, ran));
                }
            }

            worker.shared.gauges[worker.thread].exhausted.store(self.over, Ordering::Release);
            let at = worker.shared.origin + Duration::from_nanos(start + next);
            if at <= Instant::now() {
                // More is due: yield first, so that the connections' tasks read and write.
                tokio::task::yield_now().await;
                if phase.has_changed().unwrap_or(true) {
                    return Ok(());
                }
                continue;
            }

            tokio::select! {
                waited = timer.until(at) => waited?,
                () = worker.room.notified() => {}
                _ = phase.changed() => return Ok(()),
            }
        }
    }

    /// Sends the events that are due; returns when the next one is due.
    fn publish(&mut self, worker: &Worker, start: u64, ran: u64) -> u64 {
        let timeline = &worker.shared.timeline;
        for _ in 0..MOST_AT_ONCE {
            if self.over {
                return u64::MAX;
            }
            let (place, at) = self.next;
            let mut ledger = worker.ledger.borrow_mut();
            if let Err(never) = ledger.take_up_to(place, timeline) {
                self.over = never;
                return ran + RETRY;
            }

            let Some(chunk) = ledger.chunk(place).cloned() else {
                self.next = (place + 1, 0);
                continue;
            };
            let Some(event) = chunk.events.get(at) else {
                self.next = (place + 1, 0);
                continue;
            };

            let threads = worker.shared.options.threads;
            if event.author as usize % threads != worker.thread {
                self.next = (place, at + 1);
                continue;
            }
            let closed = matches!(worker.shared.options.pace, Pace::InFlight(_));
            if event.due > ran {
                return event.due;
            }

            if closed && ran >= worker.shared.options.duration.as_nanos() as u64 {
                return u64::MAX;
            }
            let Some(peer) = (if closed { self.next_with_capacity(worker) } else { self.open(worker) }) else {
                worker.recorder.borrow_mut().blocked += u64::from(!closed);
                return if closed { u64::MAX } else { ran + RETRY };
            };

            let peer = worker.peer(peer);
            let now = worker.now();
            let intended = if closed { now } else { start + event.due };
            ledger.sent((place, at), (peer.index, peer.url), intended, now);
            drop(ledger);
            peer.in_flight.set(peer.in_flight.get() + 1);
            peer.send(&[b"[\"EVENT\",", event.text.as_bytes(), b"]"]);
            timeline.gone.fetch_add(1, Ordering::Relaxed);
            {
                let mut recorder = worker.recorder.borrow_mut();
                recorder.tick.counts.sent += 1;
                recorder.lag.record(Duration::from_nanos(now.saturating_sub(intended)));
            }

            self.next = (place, at + 1);
            (0..worker.mix.questions).for_each(|which| self.ask_social(worker, which, &event.id, intended));
        }
        ran
    }

    /// The next publisher that is open and has room.
    fn open(&mut self, worker: &Worker) -> Option<u32> {
        let count = worker.publishers.len();
        (0..count).find_map(|_| {
            self.turn = (self.turn + 1) % count;
            worker.publishers.get(self.turn).copied().filter(|peer| worker.peer(*peer).has_room())
        })
    }

    /// The next connection that has fewer events under way than it may.
    fn next_with_capacity(&self, worker: &Worker) -> Option<u32> {
        let Pace::InFlight(most) = worker.shared.options.pace else { return None };
        let mut candidates = worker.peers_with_capacity.borrow_mut();
        while let Some(peer) = candidates.pop_front() {
            let has = worker.peer(peer);
            if has.open.get() && has.in_flight.get() < most {
                return Some(peer);
            }
        }
        None
    }

    /// Asks what an application asks when its user looks at an event.
    fn ask_social(&mut self, worker: &Worker, which: usize, about: &[u8; 32], intended: u64) {
        let (keys, people) = (&worker.shared.keys, &worker.shared.people);
        let mut random = worker.random.borrow_mut();
        let text = &mut self.text;
        text.clear();
        let mut push_people = |text: &mut String, count: usize| {
            for index in 0..count.min(keys.len()) {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(text, "{comma}\"{}\"", keys[people.draw(&mut random)]);
            }
        };

        match which {
            0 => {
                text.push_str(r#"{"kinds":[1,6],"limit":50,"authors":["#);
                push_people(text, 50);
                text.push_str("]}");
            }
            1 => {
                text.push_str(r#"{"kinds":[0],"authors":["#);
                push_people(text, 5);
                text.push_str("]}");
            }
            2 => {
                let ledger = worker.ledger.borrow();
                let drawn = (0..DRAWS).find_map(|_| ledger.some_sent(|count| random.below(count)));
                let id = crate::events::hex_text(drawn.map_or(about, |event| &event.id));
                let _ = write!(text, r##"{{"ids":["{id}"]}},{{"#e":["{id}"],"limit":100}}"##);
            }
            _ => {
                text.push_str(r##"{"limit":100,"#p":["##);
                push_people(text, 1);
                text.push_str("]}");
            }
        }

        drop(random);
        let text = std::mem::take(&mut self.text);
        self.send_question(worker, ("REQ", &text), which as u8, intended);
        self.text = text;
    }

    /// Sends the query workload's questions that are due; returns when the next one is due.
    fn ask(&mut self, worker: &Worker, start: u64, ran: u64) -> u64 {
        let (questions, threads) = (&worker.shared.questions, worker.shared.options.threads as u64);
        let Pace::Rate(rate) = worker.shared.options.pace else { return u64::MAX };
        if questions.is_empty() {
            return u64::MAX;
        }
        for _ in 0..MOST_AT_ONCE {
            let due = (self.question as f64 / rate * SECOND as f64) as u64;
            if due > ran || due >= worker.shared.options.duration.as_nanos() as u64 {
                return if due > ran { due } else { u64::MAX };
            }
            let (block, at) = (self.question as usize / (2 * BLOCK), self.question as usize % (2 * BLOCK));
            let index = block * BLOCK + at % BLOCK;
            let Some((class, question)) = questions.get(index % questions.len()) else { return u64::MAX };
            let hot = at >= BLOCK || index >= questions.len() || worker.shared.options.warm;
            if !self.send_question(worker, (question.verb, &question.filter), class + u8::from(hot), start + due) {
                return ran + RETRY;
            }
            self.question += threads;
        }
        ran
    }

    /// Asks on a random connection; false when none has room.
    fn send_question(&mut self, worker: &Worker, (verb, filter): (&str, &str), class: u8, intended: u64) -> bool {
        let mut recorder = worker.recorder.borrow_mut();
        let mut random = worker.random.borrow_mut();
        let mut draw = || worker.peers.get(random.below(worker.peers.len()));
        let Some(peer) = (0..DRAWS).find_map(|_| draw().filter(|peer| peer.has_room() && !peer.never_reads)) else {
            recorder.blocked += 1;
            return false;
        };
        self.name = self.name.wrapping_add(1);
        peer.asked.borrow_mut().push(Asked { number: self.name, class, intended });
        let name = format!("q{}", self.name);
        peer.send(&[b"[\"", verb.as_bytes(), b"\",\"", name.as_bytes(), b"\",", filter.as_bytes(), b"]"]);
        recorder.tick.counts.asked += 1;
        recorder.lag.record(Duration::from_nanos(worker.now().saturating_sub(intended)));
        true
    }

    /// Orders connections to reconnect when they are due; returns when the next one is due.
    fn reconnect(&mut self, worker: &Worker, ran: u64) -> u64 {
        let order = |peer: &super::peer::Peer| {
            peer.ordered.set(worker.now());
            peer.wake.notify_one();
        };
        let length = worker.shared.options.duration.as_nanos() as u64;
        let mut next = u64::MAX;
        if self.storms < worker.mix.storms {
            next = length / u64::from(worker.mix.storms + 1) * u64::from(self.storms + 1);
            if ran >= next {
                self.storms += 1;
                worker.peers.iter().filter(|peer| peer.live.get()).for_each(order);
                return ran;
            }
        }

        let Some(every) = worker.mix.reconnect_every.filter(|_| worker.shared.dated) else { return next };
        let gap = (every / worker.peers.len().max(1) as f64 * SECOND as f64) as u64;
        if self.next_reconnect == 0 {
            self.next_reconnect = gap;
        }
        while ran >= self.next_reconnect {
            self.next_reconnect += gap.max(1);
            let index = worker.random.borrow_mut().below(worker.peers.len());
            worker.peers.get(index).filter(|peer| peer.live.get()).into_iter().for_each(order);
        }
        next.min(self.next_reconnect)
    }
}
