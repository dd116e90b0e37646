//! The events to write and the filters to ask for. Their vocabulary is small, so that everything collides.

use crate::types::{Event, EventId, Filter, Kind, PublicKey, TagFilter, Timestamp, now};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

/// Events to write, and filters to ask for.
pub(super) struct Pool {
    pub(super) events: Vec<Arc<Event>>,
    pub(super) filters: Vec<Filter>,
    pub(super) counts: Vec<Vec<Filter>>,
    /// The second that the events are made around.
    pub(super) start: Timestamp,
}

pub(super) fn author(number: u8) -> PublicKey {
    PublicKey::from_bytes([number + 1; 32])
}

impl Pool {
    pub(super) fn new(seed: u64) -> Self {
        let (mut rng, start) = (StdRng::seed_from_u64(seed), now());
        let event = |salt: u32, rng: &mut StdRng| {
            let mut tags = vec![vec!["salt".to_owned(), salt.to_string()]];
            for _ in 0..rng.random_range(1..3) {
                tags.push(vec!["t".to_owned(), rng.random_range(0..3).to_string()]);
            }
            tags.push(vec!["p".to_owned(), author(rng.random_range(0..3)).to_hex()]);
            if rng.random_bool(0.1) {
                tags.push(vec!["expiration".to_owned(), (start + rng.random_range(-2..30)).to_string()]);
            }
            let kind = Kind([1, 1, 1, 7, 10_000, 1_059][rng.random_range(0..6)]);
            let at = start - rng.random_range(-15..70);
            Arc::new(Event::build(author(rng.random_range(0..3)), at, kind, &tags, "", |_| [0; 64]))
        };

        let events: Vec<Arc<Event>> = (0..600).map(|salt| event(salt, &mut rng)).collect();
        let filter = |rng: &mut StdRng| Filter {
            ids: rng.random_bool(0.1).then(|| {
                let mut ids: Vec<EventId> = (0..3).map(|_| events[rng.random_range(0..600)].id()).collect();
                ids.sort_unstable();
                ids.dedup();
                ids.into()
            }),
            authors: rng.random_bool(0.4).then(|| [author(rng.random_range(0..3))].into()),
            kinds: rng.random_bool(0.5).then(|| [[1, 7, 10_000, 1_059].map(Kind)[rng.random_range(0..4)]].into()),
            // Either none, one value, or two that must both be there.
            tags: {
                let count = [0, 0, 0, 0, 0, 1, 1, 2][rng.random_range(0..8)];
                let mut values: Vec<Box<str>> = (0..count).map(|_| rng.random_range(0..3).to_string().into()).collect();
                values.sort();
                values.dedup();
                values.into_iter().map(|value| TagFilter { letter: b't', values: [value].into() }).collect()
            },
            since: rng.random_bool(0.3).then(|| start - rng.random_range(0..70)),
            until: rng.random_bool(0.3).then(|| start - rng.random_range(-40..40)),
            limit: rng.random_bool(0.8).then(|| rng.random_range(1..12)),
        };

        let mut filters: Vec<Filter> = (0..50).map(|_| filter(&mut rng)).collect();
        let by_id = |rng: &mut StdRng| {
            // From few events, so that the same id is asked for together with ever other ids.
            let mut ids: Vec<EventId> =
                (0..rng.random_range(1..5)).map(|_| events[rng.random_range(0..40)].id()).collect();
            ids.sort_unstable();
            ids.dedup();
            Filter { ids: Some(ids.into()), ..Filter::default() }
        };

        filters.extend((0..15).map(|_| by_id(&mut rng)));
        let some = |rng: &mut StdRng| {
            let count = rng.random_range(1..3);
            (0..count).map(|_| filters[rng.random_range(0..filters.len())].clone()).collect()
        };
        let counts = (0..12).map(|_| some(&mut rng)).collect();
        Self { events, filters, counts, start }
    }
}
