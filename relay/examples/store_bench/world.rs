//! Synthetic events from a seed: 50,000 authors by Zipf's law (0.9), of whom the last tenth has been silent for a year;
//! 2.4 tags an event; 36 months, with most events at the newest end; about 650 bytes each.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use relay::types::{Event, EventId, Kind, PublicKey};
use std::sync::Arc;

const AUTHORS: usize = 50_000;
/// Authors from this rank on are dormant.
const DORMANT: usize = 45_000;
const YEAR: i64 = 365 * 86_400;
/// The present time of the benchmark, in unix seconds.
pub(crate) const NOW: i64 = 1_790_000_000;
const SPAN: f64 = 36.0 * 30.0 * 86_400.0;
const TOPICS: usize = 500;
/// How many events' tags are remembered, for filters.
const TRIPLES: usize = 2_000;

pub(crate) struct World {
    pub(crate) random: StdRng,
    authors: Vec<PublicKey>,
    weights: Vec<f64>,
    pub(crate) ids: Vec<EventId>,
    /// The `e`, `p` and `t` tag of each remembered event.
    triples: Vec<[String; 3]>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let authors = (0..AUTHORS).map(|_| PublicKey::from_bytes(random.random())).collect();
        let mut sum = 0.0;
        let weights = (1..=AUTHORS).map(|rank| {
            sum += (rank as f64).powf(-0.9);
            sum
        });
        Self { weights: weights.collect(), random, authors, ids: Vec::new(), triples: Vec::new() }
    }

    fn rank(&mut self) -> usize {
        let at = self.random.random::<f64>() * self.weights[AUTHORS - 1];
        self.weights.partition_point(|weight| *weight < at).min(AUTHORS - 1)
    }

    /// An author, drawn by how much they write.
    pub(crate) fn author(&mut self) -> PublicKey {
        let rank = self.rank();
        self.authors[rank]
    }

    pub(crate) fn any_author(&mut self) -> PublicKey {
        *self.authors.choose(&mut self.random).unwrap()
    }

    /// An author who has been silent for a year.
    pub(crate) fn dormant_author(&mut self) -> PublicKey {
        *self.authors[DORMANT..].choose(&mut self.random).unwrap()
    }

    /// One of the most mentioned authors.
    pub(crate) fn celebrity(&mut self) -> PublicKey {
        *self.authors[..20].choose(&mut self.random).unwrap()
    }

    pub(crate) fn any_id(&mut self) -> EventId {
        *self.ids.choose(&mut self.random).unwrap()
    }

    /// The id of an event, most likely a recent one.
    pub(crate) fn recent_id(&mut self) -> EventId {
        let back = (self.random.random::<f64>().powi(3) * self.ids.len() as f64) as usize;
        self.ids[self.ids.len() - 1 - back]
    }

    pub(crate) fn topic(&mut self) -> String {
        format!("topic{}", (self.random.random::<f64>().powi(3) * TOPICS as f64) as usize)
    }

    /// The tags of one event.
    pub(crate) fn triple(&mut self) -> [String; 3] {
        self.triples.choose(&mut self.random).unwrap().clone()
    }

    /// An event with a date anywhere in the 36 months.
    pub(crate) fn event(&mut self) -> Arc<Event> {
        let rank = self.rank();
        let age = SPAN * self.random.random::<f64>().powf(2.5);
        let silence = if rank >= DORMANT { YEAR } else { 0 };
        self.event_of(rank, NOW - silence - age as i64)
    }

    /// An event of the second `created_at`.
    pub(crate) fn event_at(&mut self, created_at: i64) -> Arc<Event> {
        let rank = self.rank();
        self.event_of(rank, created_at)
    }

    fn event_of(&mut self, rank: usize, created_at: i64) -> Arc<Event> {
        let kinds = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7, 7, 7, 7, 6, 0, 3, 1059, 30023, 4, 9735];
        let kind = Kind(*kinds.choose(&mut self.random).unwrap());
        let mut tags: Vec<Vec<String>> = Vec::new();
        let (mut answered, mut named) = (None, None);
        for _ in 0..*[0, 1, 2, 2, 2, 3].choose(&mut self.random).unwrap() {
            if self.ids.len() < 1000 || self.random.random_bool(0.5) {
                let author = self.author().to_hex();
                named = Some(author.clone());
                tags.push(vec!["p".into(), author]);
            } else {
                let id = self.recent_id().to_hex();
                answered = Some(id.clone());
                tags.push(vec!["e".into(), id]);
            }
        }

        if self.random.random_bool(0.3) {
            let topic = self.topic();
            if let (Some(e), Some(p)) = (answered, named)
                && self.triples.len() < TRIPLES
            {
                self.triples.push([e, p, topic.clone()]);
            }
            tags.push(vec!["t".into(), topic]);
            tags.push(vec!["l".into(), (*["en", "ja", "pt", "de"].choose(&mut self.random).unwrap()).into()]);
        }

        if kind.0 == 30023 {
            tags.push(vec!["d".into(), self.random.random_range(0..50).to_string()]);
        }
        let content = "x".repeat(self.random.random_range(20..300));
        let event = Event::build(self.authors[rank], created_at, kind, &tags, &content, |_| [7; 64]);
        self.ids.push(event.id());
        Arc::new(event)
    }
}
