//! How common the values of each field are: the index files a filter under its rarest field.

use crate::types::{Event, Kind};
use hashbrown::HashMap;

/// After this many events every count is halved, so that old traffic fades.
const HALVING: u32 = 1 << 14;

/// The weight of the priors, in events: after this many real events, the counts weigh more than the priors.
const PRIOR_EVENTS: f64 = 1000.0;

/// The prior of a kind: the expected number of its events in [`PRIOR_EVENTS`] events.
fn prior_of_kind(kind: Kind) -> f64 {
    match kind.0 {
        1 => 300.0,
        7 => 200.0,
        0 | 3 | 4 | 6 | 1059 | 9735 => 50.0,
        5 | 1111 | 10_002 | 30_023 | 30_078 => 10.0,
        _ => 0.5,
    }
}

/// The prior of a tag letter: the expected number of its tags in [`PRIOR_EVENTS`] events.
fn prior_of_letter(letter: u8) -> f64 {
    match letter {
        b'p' | b'e' => 1000.0,
        b't' => 300.0,
        b'a' | b'd' | b'k' | b'r' => 100.0,
        _ => 10.0,
    }
}

/// The share of one value among the tags of its letter: there are many identifiers, fewer topics, still fewer kinds.
const fn share_of_value(letter: u8) -> f64 {
    match letter {
        b'e' | b'a' | b'q' | b'E' | b'A' => 1e-5,
        b'p' | b'P' => 1e-4,
        b't' | b'r' | b'i' | b'I' => 1e-3,
        b'd' => 1e-2,
        _ => 1e-1,
    }
}

/// Counts of the events that [`observe`](Self::observe) got, halved from time to time.
pub(super) struct Frequencies {
    events: u32,
    until_halving: u32,
    kinds: HashMap<Kind, u32>,
    letters: [u32; 128],
}

impl Frequencies {
    /// The share of one author in all events: a constant, since counting authors would cost more than it saves.
    pub(super) const AUTHOR: f64 = 1e-4;

    /// The chance that the next event has one given id. Lower than any other share: an id occurs once.
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

    /// The share of events of this kind.
    pub(super) fn kind(&self, kind: Kind) -> f64 {
        self.share(self.kinds.get(&kind).copied().unwrap_or(0), prior_of_kind(kind))
    }

    /// How many tags of this letter with one given value an event has on average.
    pub(super) fn tag_value(&self, letter: u8) -> f64 {
        let count = self.letters.get(usize::from(letter)).copied().unwrap_or(0);
        self.share(count, prior_of_letter(letter)) * share_of_value(letter)
    }
}
