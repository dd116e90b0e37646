//! The questions to ask, and the events that are published meanwhile.

use super::Hot;
use super::stage::Stage;
use crate::bench::{Question, Shape, questions};
use crate::client::Reply;
use crate::events::{Authors, Generator, Keys, Kinds, Plan, Random, Zipf, sign_all};
use rustc_hash::FxHashSet;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// The number of draws: more than any run can ask.
const DRAWS: usize = 2_000_000;
/// The share of each shape among the filters, in percent. The rest are authors' notes.
const SHARES: [(Shape, usize); 5] =
    [(Shape::Profile, 30), (Shape::Feed50, 3), (Shape::Mentions, 1), (Shape::Thread, 6), (Shape::Id, 20)];

pub(super) struct Work {
    /// Different questions, the most frequent first.
    pub(super) ranked: Rc<[Question]>,
    /// Indexes of the questions in the order in which they are asked.
    pub(super) drawn: Rc<[u32]>,
}

impl Work {
    pub(super) fn draw(hot: &Hot, keys: &Keys, authors: &Authors) -> Self {
        let mut random = Random::new(hot.seed ^ 0x407);
        let mut known = FxHashSet::default();
        let mut all: Vec<Question> = Vec::with_capacity(hot.filters);
        for (shape, percent) in SHARES {
            let wanted = all.len() + hot.filters * percent / 100;
            gather(wanted, &mut all, &mut known, |count| questions(shape, count, keys, authors, &mut random));
        }

        gather(hot.filters, &mut all, &mut known, |count| {
            let mut more = questions(Shape::Author, count, keys, authors, &mut random);
            // An author has only one profile and one newest page: further questions ask for other pages, as other
            // clients do.
            for question in &mut more {
                let limit = 10 + random.below(40);
                question.filter = question.filter.replace("\"limit\":20", &format!("\"limit\":{limit}"));
            }
            more
        });

        for at in (1..all.len()).rev() {
            all.swap(at, random.below(at + 1));
        }
        let ranks = Zipf::new(all.len(), hot.skew);
        let drawn = (0..DRAWS).map(|_| ranks.draw(&mut random) as u32).collect();
        Self { ranked: all.into(), drawn }
    }

    pub(super) fn different(&self) -> usize {
        self.ranked.len()
    }

    /// How many different filters there are, apart from their limits.
    pub(super) fn keys(&self) -> usize {
        let without = |filter: &str| filter.split(",\"limit\":").next().unwrap_or_default().to_owned();
        self.ranked.iter().map(|question| without(&question.filter)).collect::<FxHashSet<_>>().len()
    }

    /// How many different questions the first `draws` ask.
    pub(super) fn asked(&self, draws: usize) -> usize {
        self.drawn.iter().take(draws).collect::<FxHashSet<_>>().len()
    }
}

/// Adds different questions of a shape until there are `wanted`, or no new ones are drawn.
fn gather(
    wanted: usize,
    all: &mut Vec<Question>,
    known: &mut FxHashSet<u64>,
    mut ask: impl FnMut(usize) -> Vec<Question>,
) {
    use std::hash::{BuildHasher, BuildHasherDefault};
    let hasher = BuildHasherDefault::<rustc_hash::FxHasher>::default();
    for _ in 0..20 {
        let missing = wanted.saturating_sub(all.len());
        if missing == 0 {
            return;
        }
        for question in ask(missing.max(100)) {
            if all.len() < wanted && known.insert(hasher.hash_one(&*question.filter)) {
                all.push(question);
            }
        }
    }
}

/// The publisher of a phase, which runs until it is stopped.
pub(super) struct Publishing {
    task: JoinHandle<()>,
    accepted: Rc<Cell<u64>>,
}

impl Publishing {
    /// Stops, and returns how many events were acknowledged.
    pub(super) fn stop(self) -> u64 {
        self.task.abort();
        self.accepted.get()
    }
}

/// Publishes at the rate of `hot` on the first instance, for no longer than `lasts`.
pub(super) fn publish(stage: &Stage, hot: &Hot, authors: &Authors, lasts: Duration) -> anyhow::Result<Publishing> {
    let site = stage.site(0)?;
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let plan = Plan {
        seed: hot.seed ^ unix.as_nanos() as u64,
        // Each second of a phase takes a little longer than a second.
        events: (hot.rate * lasts.as_secs_f64() * 1.5) as usize,
        until: unix.as_secs(),
        span_seconds: 60,
        kinds: Kinds::Mixed,
    };

    let events = sign_all(Generator::new(plan, authors).collect(), authors);
    let mut ticks = interval(Duration::from_secs_f64(1.0 / hot.rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let accepted = Rc::<Cell<u64>>::default();
    let counter = accepted.clone();
    let task = tokio::task::spawn_local(async move {
        let Ok(mut client) = site.connect(0).await else { return };
        for event in events {
            // Answers are only counted, so they are read now and then.
            loop {
                let answers = client.receive(&site.scratch, |message| {
                    if let Reply::Ok { accepted: true, .. } = Reply::parse(message) {
                        counter.set(counter.get() + 1);
                    }
                });
                tokio::select! {
                    answers = answers => if answers.is_err() { return },
                    _ = ticks.tick() => break,
                }
            }
            client.queue(&[b"[\"EVENT\",", event.text.as_bytes(), b"]"]);
        }
    });
    Ok(Publishing { task, accepted })
}
