//! Measurements beside the transcripts: the time of a small query, and where HAProxy sends clients.

use crate::clients::Socket;
use crate::kit::Author;
use deploy::local::Local;
use haproxy::{ServerState, Status};
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The pause between two looks at HAProxy.
const LOOK: Duration = Duration::from_millis(25);
/// The time between two queries of one client.
const PACE: Duration = Duration::from_millis(50);

struct Answer {
    at: Instant,
    took: Duration,
    /// The query was lost with its connection and repeated on another; the time counts from the first.
    again: bool,
}

/// Clients that repeatedly ask for an author's last notes.
#[derive(Default)]
pub struct Askers {
    answers: Arc<Mutex<Vec<Answer>>>,
    tasks: JoinSet<()>,
}

impl Askers {
    pub fn start(port: u16, authors: &[Author], number: usize) -> Self {
        let mut askers = Self::default();
        for n in 0..number {
            let author = authors[n % authors.len()].pubkey().to_hex();
            let filter = json!({"authors": [author], "kinds": [1], "limit": 20});
            askers.tasks.spawn(ask(port, json!(["REQ", "a", filter]).to_string(), askers.answers.clone()));
        }
        askers
    }

    /// The 99th percentile of the answers in a window, and the longest wait of a client that was cut off.
    pub fn times(&self, what: &str, (from, to): (Instant, Instant)) -> (Duration, Duration) {
        let answers = self.answers.lock();
        let took = |again: bool| {
            let within = answers.iter().filter(|answer| answer.at >= from && answer.at < to && answer.again == again);
            let mut took: Vec<_> = within.map(|answer| answer.took).collect();
            took.sort();
            took
        };
        let (answered, again) = (took(false), took(true));
        let at = |percent: usize| answered[(answered.len() * percent / 100).min(answered.len() - 1)];
        let longest = again.last().copied().unwrap_or_default();
        println!("REQ, {what}: p50 {:?}, p99 {:?}, most {:?} of {}", at(50), at(99), at(100), answered.len());
        println!("  and {} asked again on a new connection, answered within {longest:?}", again.len());
        (at(99), longest)
    }
}

async fn ask(port: u16, request: String, answers: Arc<Mutex<Vec<Answer>>>) {
    let mut socket = Socket::patient(port).await;
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (begin, mut again) = (Instant::now(), false);
        while answer(&mut socket, &request).await.is_none() {
            (socket, again) = (Socket::patient(port).await, true);
        }
        answers.lock().push(Answer { at: Instant::now(), took: begin.elapsed(), again });
    }
}

async fn answer(socket: &mut Socket, request: &str) -> Option<()> {
    socket.send(request.to_owned()).await?;
    loop {
        let message = socket.next().await?;
        match message[0].as_str()? {
            "EOSE" => return socket.send(r#"["CLOSE","a"]"#.to_owned()).await,
            "CLOSED" => return None,
            _ => {}
        }
    }
}

type Seen = Arc<Mutex<Vec<(Instant, Vec<ServerState>)>>>;

/// Records HAProxy's state of each server periodically.
pub struct Watch {
    seen: Seen,
    tasks: JoinSet<()>,
}

impl Watch {
    pub fn start(local: &Local) -> Self {
        let (runtime, seen) = (local.front(), Seen::default());
        let mut tasks = JoinSet::new();
        let into = seen.clone();
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(LOOK);
            loop {
                ticks.tick().await;
                if let Ok(states) = runtime.servers().await {
                    into.lock().push((Instant::now(), states));
                }
            }
        });
        Self { seen, tasks }
    }

    /// Ends it; returns each drain of a server.
    pub fn end(mut self) -> Vec<Drain> {
        self.tasks.abort_all();
        drains(&self.seen.lock())
    }
}

/// One drain of a server, as HAProxy saw it.
#[derive(Debug)]
pub struct Drain {
    pub server: String,
    /// The number of its clients, sample by sample.
    pub clients: Vec<(Instant, u64)>,
    /// How many clients it got meanwhile.
    pub newly_sent: u64,
}

fn drains(seen: &[(Instant, Vec<ServerState>)]) -> Vec<Drain> {
    let mut drains: Vec<Drain> = Vec::new();
    let mut names: Vec<_> = seen.iter().flat_map(|(_, states)| states.iter().map(|state| &state.name)).collect();
    names.sort();
    names.dedup();
    for name in names {
        // The total at the beginning of the present drain.
        let mut began = None;
        for (at, states) in seen {
            let Some(state) = states.iter().find(|state| state.name == *name && state.status == Status::Draining)
            else {
                began = None;
                continue;
            };

            let total = *began.get_or_insert_with(|| {
                drains.push(Drain { server: name.clone(), clients: Vec::new(), newly_sent: 0 });
                state.total
            });
            if let Some(drain) = drains.last_mut() {
                drain.clients.push((*at, state.connections));
                drain.newly_sent = state.total.saturating_sub(total);
            }
        }
    }
    drains
}

impl Drain {
    /// Whether its clients left over the given time: in no quarter of it more than three quarters of them. HAProxy
    /// notices a drain some tenths of a second late.
    pub fn is_spread_over(&self, time: Duration) -> bool {
        let Some((begin, all)) = self.leaving() else { return false };
        let left_by = |at: Instant| {
            let left =
                self.clients.iter().take_while(|(seen, _)| *seen <= at).last().map_or(all, |(_, clients)| *clients);
            all.saturating_sub(left)
        };
        let quarters = (0..4).map(|n| left_by(begin + time * (n + 1) / 4) - left_by(begin + time * n / 4));
        quarters.max().unwrap_or(0) * 100 <= all * 75
    }

    /// When the first client left, and how many there were.
    fn leaving(&self) -> Option<(Instant, u64)> {
        let all = self.clients.iter().map(|(_, clients)| *clients).max()?;
        let last_full = self.clients.iter().rfind(|(_, clients)| *clients == all)?;
        Some((last_full.0, all))
    }

    /// The time from the first client that left to the half, and to the last, as text.
    pub fn times(&self) -> String {
        let Some((begin, all)) = self.leaving() else { return "nobody".to_owned() };
        let until =
            |left: u64| self.clients.iter().find(|(at, now)| *at >= begin && *now <= left).map(|(at, _)| *at - begin);
        format!("{all} clients left {}: half after {:?}, all after {:?}", self.server, until(all / 2), until(0))
    }
}

#[test]
fn a_crowd_that_leaves_at_once_is_not_spread() {
    let begin = Instant::now();
    let drain = |clients: &dyn Fn(u32) -> u64| Drain {
        server: String::new(),
        clients: (0..40).map(|n| (begin + Duration::from_millis(50) * n, clients(n))).collect(),
        newly_sent: 0,
    };
    let time = Duration::from_secs(2);
    assert!(drain(&|n| u64::from(40 - n)).is_spread_over(time));
    assert!(!drain(&|n| if n < 3 { 40 } else { 0 }).is_spread_over(time), "control");
    assert!(!drain(&|n| if n < 35 { 40 } else { 0 }).is_spread_over(time), "control");
}
