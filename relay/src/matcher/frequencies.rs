//! How common each field's values are: what decides where a filter is filed.

use crate::types::{Event, Kind};
use hashbrown::HashMap;

/// After this many events every count is halved, so old habits of the network are forgotten.
const HALVING: u32 = 1 << 14;

/// How many imagined events the first guesses weigh; observation outweighs them after as many real ones.
const PRIOR_EVENTS: f64 = 1000.0;

/// How often a kind comes in [`PRIOR_EVENTS`] events before any were seen.
fn prior_of_kind(kind: Kind) -> f64 {
    match kind.0 {
        1 => 300.0,
        7 => 200.0,
        0 | 3 | 4 | 6 | 1059 | 9735 => 50.0,
        5 | 1111 | 10_002 | 30_023 | 30_078 => 10.0,
        _ => 0.5,
    }
}

/// How often a tag of a letter comes in [`PRIOR_EVENTS`] events before any were seen.
fn prior_of_letter(letter: u8) -> f64 {
    match letter {
        b'p' | b'e' => 1000.0,
        b't' => 300.0,
        b'a' | b'd' | b'k' | b'r' => 100.0,
        _ => 10.0,
    }
}

/// The share that one value has among the tags of its letter: identifiers are many, topics few, kinds fewer.
const fn share_of_value(letter: u8) -> f64 {
    match letter {
        b'e' | b'a' | b'q' | b'E' | b'A' => 1e-5,
        b'p' | b'P' => 1e-4,
        b't' | b'r' | b'i' | b'I' => 1e-3,
        b'd' => 1e-2,
        _ => 1e-1,
    }
}

/// Decayed counts of what [`observe`](Self::observe) saw.
pub(super) struct Frequencies {
    events: u32,
    until_halving: u32,
    kinds: HashMap<Kind, u32>,
    letters: [u32; 128],
}

impl Frequencies {
    /// The share that one author has in all events: a guess, since counting authors would cost more than it saves.
    pub(super) const AUTHOR: f64 = 1e-4;

    /// The chance that one id asked for is the next event's. Lower than any other: an id comes once.
    pub(super) const ID: f64 = 1e-7;

    pub(super) fn new() -> Self {
        Self { events: 0, until_halving: HALVING, kinds: HashMap::new(), letters: [0; 128] }
    }

    /// Counts one event.
    pub(super) fn observe(&mut self, event: &Event) {
        self.events += 1;
        *self.kinds.entry(event.kind()).or_default() += 1;
        for tag in event.tags() {
            if let Some(count) = self.letters.get_mut(usize::from(tag.letter)) {
                *count = count.saturating_add(1);
            }
        }
        self.until_halving -= 1;
        if self.until_halving == 0 {
            self.until_halving = HALVING;
            self.events /= 2;
            self.letters.iter_mut().for_each(|count| *count /= 2);
            self.kinds.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
    }

    fn share(&self, count: u32, prior: f64) -> f64 {
        (f64::from(count) + prior) / (f64::from(self.events) + PRIOR_EVENTS)
    }

    /// The share of events that have this kind.
    pub(super) fn kind(&self, kind: Kind) -> f64 {
        self.share(self.kinds.get(&kind).copied().unwrap_or(0), prior_of_kind(kind))
    }

    /// How many tags of this letter with one given value an event has on average.
    pub(super) fn tag_value(&self, letter: u8) -> f64 {
        let count = self.letters.get(usize::from(letter)).copied().unwrap_or(0);
        self.share(count, prior_of_letter(letter)) * share_of_value(letter)
    }
}
