//! Fills the timeline, on a thread of its own: with generated events, or with replayed ones.

use super::timeline::{AHEAD, CHUNK, Planned, Timeline, is_replaceable, prefix};
use super::{Options, Pace, Workload};
use crate::client::unhex;
use crate::events::{Authors, Generator, Kinds, Plan, Random, sign_all};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;
use std::io::BufRead;
use std::sync::Weak;
use std::sync::atomic::Ordering;

/// How many events one generator makes before a new one follows: its memory grows with its events.
const EVENTS_OF_A_GENERATOR: usize = 50 * BATCH;
/// Further events of a generator, in place of those that it makes twice.
const SPARE: usize = 10_000;
/// The most ids that are remembered to find events that were made twice.
const MOST_IDS: usize = 1_000_000;
/// How many events are signed at a time: enough for all cores, few enough to be ready early.
const BATCH: usize = 32 * CHUNK;
const NANOS: f64 = 1e9;

/// Makes events until the timeline wants no more or all of the run's are made. `unix` is the date of the first.
pub(super) fn sign(options: &Options, authors: &Authors, unix: u64, timeline: &Timeline) {
    // A closed loop gets only events that are signed before it starts: signing meanwhile would take CPU time from the
    // relay under test.
    let wanted = options.wanted().unwrap_or(AHEAD);
    let due = |number: u64| match options.pace {
        Pace::Rate(rate) => (number as f64 / rate * NANOS) as u64,
        Pace::InFlight(_) => 0,
    };

    // In workloads that count each event as stored and delivered, none may replace another.
    let regular = options.workload == Workload::Publish || options.workload.mix().publishers.is_some();
    let mut random = Random::new(options.seed ^ 0x10ad_7e57);
    let mut newest = Newest::default();
    let mut made = 0;
    // An author who reacts twice in the same way within a second makes the same event twice. Its second OK could not be
    // told from the first, so such an event is left out.
    let mut ids = FxHashSet::default();

    'all: while made < wanted {
        let kinds = if regular { Kinds::Regular } else { Kinds::Mixed };
        let events = EVENTS_OF_A_GENERATOR + SPARE;
        let plan = Plan { seed: random.bits(), events, until: unix, span_seconds: 0, kinds };
        let mut generator = Generator::new(plan, authors);
        let mut left = EVENTS_OF_A_GENERATOR;
        if ids.len() > MOST_IDS {
            ids.clear();
        }
        while left > 0 && made < wanted {
            let count = BATCH.min(left).min((wanted - made).min(BATCH as u64) as usize);
            let mut drafts = Vec::with_capacity(count);
            for number in made..made + count as u64 {
                generator.set_time(unix + due(number) / NANOS as u64);
                drafts.extend(generator.by_ref().find(|draft| ids.insert(prefix(&draft.id))));
            }
            let count = drafts.len();
            let mut heads = drafts
                .iter_mut()
                .map(|draft| (draft.author, draft.kind, draft.created_at, std::mem::take(&mut draft.mentions)))
                .collect::<Vec<_>>()
                .into_iter();
            let mut signed = sign_all(drafts, authors).into_iter();
            for first in (0..count).step_by(CHUNK) {
                let length = CHUNK.min(count - first);
                let events = signed.by_ref().take(length).zip(heads.by_ref()).enumerate();
                let events = events.map(|(at, (event, (author, kind, created_at, mentions)))| {
                    let due = due(made + (first + at) as u64);
                    Planned::new(event.id, event.text, (author, kind, created_at), mentions, due)
                });
                if !newest.push(events.collect(), timeline) {
                    break 'all;
                }
            }
            left -= count;
            made += count as u64;
        }
    }
    timeline.end();
}

/// The newest version of each replaceable event so far, to mark the versions before it as superseded.
#[derive(Default)]
struct Newest {
    chunks: usize,
    places: FxHashMap<(u32, u16), (Weak<super::timeline::Chunk>, usize)>,
}

impl Newest {
    /// Pushes a chunk, and marks the events that its events replace. Only the last chunk may be shorter than [`CHUNK`].
    fn push(&mut self, events: Vec<Planned>, timeline: &Timeline) -> bool {
        if !timeline.push(events) {
            return false;
        }
        let chunk = timeline.chunk(self.chunks);
        self.chunks += 1;
        let Ok(chunk) = chunk else { return true };
        for (at, event) in chunk.events.iter().enumerate() {
            if !is_replaceable(event.kind) {
                continue;
            }
            let place = (std::sync::Arc::downgrade(&chunk), at);
            if let Some((before, at)) = self.places.insert((event.author, event.kind), place)
                && let Some(before) = before.upgrade()
                && let Some(event) = before.events.get(at)
            {
                event.superseded.store(true, Ordering::Release);
            }
        }
        true
    }
}

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A line is no event.
    #[error("line {line} is no event: {error}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        error: String,
    },
}

#[derive(Deserialize)]
struct Real {
    id: String,
    pubkey: String,
    created_at: u64,
    kind: u16,
    tags: Vec<Vec<String>>,
}

/// The events of a file, and the keys of their authors and of the authors that they mention, by rank.
pub(super) struct Replay {
    pub(super) events: Vec<Planned>,
    pub(super) people: Vec<String>,
    /// How many events each of `people` wrote.
    pub(super) written: Vec<u32>,
}

/// Reads as many events as the run needs. Replaceable, ephemeral and deleting events may rightly be missing later, so
/// their deliveries are counted but never called lost.
pub(super) fn read(file: impl BufRead, options: &Options) -> Result<Replay, ReplayError> {
    let rate = match options.pace {
        Pace::Rate(rate) => rate,
        Pace::InFlight(_) => f64::INFINITY,
    };
    let wanted = options.wanted().map_or(usize::MAX, |wanted| wanted as usize);
    let mut ranks = FxHashMap::<String, u32>::default();
    let mut ids = FxHashSet::default();
    let mut replay = Replay { events: Vec::new(), people: Vec::new(), written: Vec::new() };
    for (index, text) in file.lines().enumerate() {
        let text = text?;
        if replay.events.len() == wanted {
            break;
        }
        let wrong = |error: String| ReplayError::Line { line: index + 1, error };
        let real = serde_json::from_str::<Real>(&text).map_err(|error| wrong(error.to_string()))?;
        // A repeated event would be a duplicate, which no subscription gets.
        let id = unhex(real.id.as_bytes()).ok_or_else(|| wrong("its id is no 64 hex digits".to_owned()))?;
        if !ids.insert(id) {
            continue;
        }
        let mut rank = |key: &str, replay: &mut Replay| {
            *ranks.entry(key.to_owned()).or_insert_with(|| {
                replay.people.push(key.to_owned());
                replay.written.push(0);
                (replay.people.len() - 1) as u32
            })
        };
        let author = rank(&real.pubkey, &mut replay);
        replay.written[author as usize] += 1;
        let named = real.tags.iter().filter(|tag| tag.first().is_some_and(|name| name == "p"));
        let named = named.filter_map(|tag| tag.get(1)).map(|key| rank(key, &mut replay)).collect::<Vec<_>>();
        let due = (replay.events.len() as f64 / rate * NANOS) as u64;
        let event = Planned::new(id, text, (author, real.kind, real.created_at), named, due);
        let stays = !is_replaceable(real.kind) && !matches!(real.kind, 5 | 20_000..40_000);
        event.superseded.store(!stays, Ordering::Release);
        replay.events.push(event);
    }
    Ok(replay)
}

/// Puts a file's events into the timeline.
pub(super) fn play(events: Vec<Planned>, timeline: &Timeline) {
    let mut events = events.into_iter();
    loop {
        let chunk = events.by_ref().take(CHUNK).collect::<Vec<_>>();
        if chunk.is_empty() || !timeline.push(chunk) {
            return timeline.end();
        }
    }
}
