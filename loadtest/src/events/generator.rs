//! Generates events, one after the other in the order of their dates.

use super::author::Authors;
use super::content::{push_profile, push_reaction, push_words};
use super::draft::{Draft, Parts, hex_text};
use super::keys::Keys;
use super::random::{Random, Zipf};
use std::fmt::Write;

const HASHTAGS: usize = 2_000;
/// The Zipf exponent of authors, and of the authors and events that they refer to.
const SKEW: f64 = 0.9;
/// A prime, so that the events with most references are spread over the whole data set.
const STRIDE: usize = 2_654_435_761;

/// Which kinds to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// The mix of a public relay: notes 60 %, reactions 20 %, and reposts, comments, zaps, profiles, follow lists,
    /// relay lists and articles.
    Mixed,
    /// Only regular kinds (NIP-01), of which a relay keeps every event: so each accepted event is one stored event.
    Regular,
    /// Only notes of this one author, by rank.
    NotesOf(usize),
}

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The seed of all random numbers.
    pub seed: u64,
    /// How many events.
    pub events: usize,
    /// The newest event's time in unix seconds.
    pub until: u64,
    /// How long before that the oldest one is dated, in seconds.
    pub span_seconds: u64,
    /// Which kinds.
    pub kinds: Kinds,
}

/// Makes the events of a [`Plan`]; the same plan and authors give the same events.
#[derive(Debug)]
pub struct Generator<'a> {
    plan: Plan,
    authors: &'a Authors,
    people: Zipf,
    targets: Zipf,
    hashtags: Zipf,
    random: Random,
    keys: Keys,
    now: Option<u64>,
    mentions: Vec<u32>,
    tags: String,
    content: String,
}

impl<'a> Generator<'a> {
    /// A generator at its first event.
    pub fn new(plan: Plan, authors: &'a Authors) -> Self {
        Self {
            plan,
            authors,
            people: Zipf::new(authors.len(), SKEW),
            targets: Zipf::new(plan.events.max(1), SKEW),
            hashtags: Zipf::new(HASHTAGS, SKEW),
            random: Random::new(plan.seed),
            keys: Keys::new(authors.len()),
            now: None,
            mentions: Vec::new(),
            tags: String::new(),
            content: String::new(),
        }
    }

    /// Dates every event from now on with `unix` seconds, instead of over the plan's span.
    pub fn set_time(&mut self, unix: u64) {
        self.now = Some(unix);
    }

    /// The keys of the events made so far, to ask questions about them.
    pub fn into_keys(self) -> Keys {
        self.keys
    }

    /// Half of all events have dates in the newest quarter of the span: the time left grows with the square of the
    /// number of events left. Each date is off by up to ten minutes, so that the events are not quite in order.
    fn created_at(&mut self, made: usize) -> u64 {
        let left = 1.0 - (made as f64 + 0.5) / self.plan.events as f64;
        let before = (self.plan.span_seconds as f64 * left * left) as u64;
        let disorder = self.random.below(600.min(self.plan.span_seconds as usize + 1)) as u64;
        self.plan.until.saturating_sub(before + disorder)
    }

    fn kind(&mut self) -> u16 {
        let at = self.random.below(1_000);
        let mixed: [(usize, u16); 9] = [
            (600, 1),
            (800, 7),
            (860, 6),
            (900, 1111),
            (950, 9735),
            (970, 0),
            (980, 3),
            (992, 10_002),
            (1_000, 30_023),
        ];

        let kind = mixed.iter().find(|(end, _)| at < *end).map_or(1, |(_, kind)| *kind);
        match self.plan.kinds {
            Kinds::Mixed => kind,
            Kinds::Regular if !matches!(kind, 0 | 3 | 10_002 | 30_023) => kind,
            Kinds::Regular | Kinds::NotesOf(_) => 1,
        }
    }

    fn push_tag(&mut self, name: &str, value: &str) {
        let comma = if self.tags.len() > 1 { "," } else { "" };
        let _ = write!(self.tags, "{comma}[\"{name}\",\"{value}\"]");
    }

    fn push_person(&mut self, name: &str) {
        let person = self.people.draw(&mut self.random);
        if name == "p" {
            self.keys.point_at_person(person);
            self.mentions.push(person as u32);
        }
        let authors = self.authors;
        self.push_tag(name, authors.hex(person));
    }

    /// Appends a tag that refers to an earlier event: mostly one of the newest, else a popular one.
    fn push_event(&mut self, name: &str) {
        let made = self.keys.len();
        let popular = self.targets.draw(&mut self.random).wrapping_mul(STRIDE) % self.plan.events.max(1);
        let recent = made.saturating_sub(1 + (made as f64 * self.random.unit().powi(6)) as usize);
        let target = if self.random.percent(30) && popular < made { popular } else { recent };
        let Some(id) = self.keys.id(target).map(hex_text) else { return };
        if name == "e" {
            self.keys.point_at_event(target);
        }
        self.push_tag(name, &id);
    }

    fn push_hashtags(&mut self, at_most: usize) {
        for _ in 0..=self.random.below(at_most) {
            let hashtag = self.hashtags.draw(&mut self.random);
            self.push_tag("t", &format!("topic{hashtag}"));
        }
    }

    fn write_tags(&mut self, kind: u16, made: usize) {
        self.tags.push('[');
        match kind {
            1 => {
                if self.random.percent(35) {
                    self.push_event("e");
                    self.push_person("p");
                    if self.random.percent(30) {
                        self.push_event("e");
                        self.push_person("p");
                    }
                } else if self.random.percent(35) {
                    self.push_hashtags(3);
                }
            }
            6 | 7 => {
                self.push_event("e");
                self.push_person("p");
            }
            1111 => {
                self.push_event("E");
                self.push_tag("K", "30023");
                self.push_event("e");
                self.push_person("p");
            }
            9735 => {
                self.push_event("e");
                self.push_person("p");
                self.push_person("P");
                let preimage = self.random.bits();
                self.push_tag("bolt11", &format!("lnbc10u1p{preimage:064x}"));
            }
            3 => {
                for _ in 0..5 + self.random.below(30) {
                    self.push_person("p");
                }
            }
            10_002 => {
                self.push_tag("r", "wss://relay.example.com");
                self.push_tag("r", &format!("wss://relay{}.example.com", made % 500));
            }
            30_023 => {
                self.push_tag("d", &format!("article-{made}"));
                self.push_tag("title", "An article");
                self.push_hashtags(4);
            }
            _ => {}
        }
        self.tags.push(']');
    }

    fn write_content(&mut self, kind: u16, author: usize) {
        let Self { random, content, .. } = self;
        match kind {
            0 => push_profile(random, author, content),
            7 => push_reaction(random, content),
            3 | 6 | 9735 | 10_002 => content.push_str("\"\""),
            30_023 => push_words(random, 400.0, content),
            _ => push_words(random, 27.0, content),
        }
    }
}

impl Iterator for Generator<'_> {
    type Item = Draft;

    fn next(&mut self) -> Option<Draft> {
        let made = self.keys.len();
        if made == self.plan.events {
            return None;
        }
        let author = match self.plan.kinds {
            Kinds::NotesOf(author) => author,
            _ => self.people.draw(&mut self.random),
        };

        let kind = self.kind();
        let dated = self.created_at(made);
        let created_at = self.now.unwrap_or(dated);
        self.tags.clear();
        self.mentions.clear();
        self.content.clear();
        self.write_tags(kind, made);
        self.write_content(kind, author);
        let pubkey = self.authors.hex(author);
        let author = author as u32;
        let mut draft =
            Draft::new(&Parts { author, pubkey, created_at, kind, tags: &self.tags, content: &self.content });
        draft.mentions.extend_from_slice(&self.mentions);
        self.keys.push(&draft);
        Some(draft)
    }
}

#[cfg(test)]
mod tests;
