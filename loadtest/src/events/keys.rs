//! Keys of a generated data set, for questions whose answers are not empty.

use super::Draft;
use super::draft::hex_text;
use super::random::{Random, Zipf};
use rustc_hash::FxHashSet;

/// Ids, authors and references of the events made so far, 50 bytes an event.
#[derive(Debug)]
pub struct Keys {
    ids: Vec<[u8; 32]>,
    /// Events of kind 1: never replaced, so they can be asked for by id.
    notes: Vec<u32>,
    /// Authors of each note, and of each profile, in the order written: a draw from them follows their shares.
    note_authors: Vec<u32>,
    profile_authors: Vec<u32>,
    /// The target of each `e` tag.
    event_targets: Vec<u32>,
    /// How many `p` tags name each author.
    person_counts: Vec<u32>,
}

impl Keys {
    pub(super) fn new(authors: usize) -> Self {
        Self {
            ids: Vec::new(),
            notes: Vec::new(),
            note_authors: Vec::new(),
            profile_authors: Vec::new(),
            event_targets: Vec::new(),
            person_counts: vec![0; authors],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, event: usize) -> Option<&[u8; 32]> {
        self.ids.get(event)
    }

    pub(super) fn push(&mut self, draft: &Draft) {
        match draft.kind {
            0 => self.profile_authors.push(draft.author),
            1 => {
                self.notes.push(self.ids.len() as u32);
                self.note_authors.push(draft.author);
            }
            _ => {}
        }
        self.ids.push(draft.id);
    }

    pub(super) fn point_at_person(&mut self, author: usize) {
        self.person_counts[author] += 1;
    }

    pub(super) fn point_at_event(&mut self, event: usize) {
        self.event_targets.push(event as u32);
    }

    /// True when the set is too small for some shapes of questions.
    pub fn is_thin(&self) -> bool {
        self.notes.is_empty() || self.profile_authors.is_empty() || self.event_targets.is_empty()
    }

    /// The id of a note, drawn evenly.
    pub fn note_id(&self, random: &mut Random) -> String {
        hex_text(&self.ids[random.pick(&self.notes) as usize])
    }

    /// An author of notes, drawn by their share of notes.
    pub fn note_author(&self, random: &mut Random) -> usize {
        random.pick(&self.note_authors) as usize
    }

    /// The author of a profile.
    pub fn profile_author(&self, random: &mut Random) -> usize {
        random.pick(&self.profile_authors) as usize
    }

    /// `count` different event ids that `e` tags refer to, drawn by their share of tags; fewer where there are fewer.
    pub fn event_targets(&self, count: usize, random: &mut Random) -> Vec<String> {
        let drawn = distinct(count, || random.pick(&self.event_targets) as usize);
        drawn.into_iter().map(|event| hex_text(&self.ids[event])).collect()
    }

    /// A follow list: `count` different authors, drawn by popularity; fewer where there are fewer.
    pub fn follows(&self, count: usize, people: &Zipf, random: &mut Random) -> Vec<usize> {
        distinct(count, || people.draw(random))
    }

    /// The `count` authors with most `p` tags, in descending order.
    pub fn most_mentioned(&self, count: usize) -> Vec<usize> {
        let mut authors = (0..self.person_counts.len()).collect::<Vec<_>>();
        authors.sort_by_key(|author| std::cmp::Reverse(self.person_counts[*author]));
        authors.truncate(count);
        authors.retain(|author| self.person_counts[*author] > 0);
        authors
    }
}

/// Draws until there are `count` different ones, or 50 draws for each were in vain.
fn distinct(count: usize, mut draw: impl FnMut() -> usize) -> Vec<usize> {
    let mut seen = FxHashSet::default();
    let mut drawn = Vec::with_capacity(count);
    for _ in 0..count * 50 {
        if drawn.len() == count {
            break;
        }
        let one = draw();
        if seen.insert(one) {
            drawn.push(one);
        }
    }
    drawn
}
