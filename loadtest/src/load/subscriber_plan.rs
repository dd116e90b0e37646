//! Which connection subscribes to what, and therefore which subscriptions an event must reach.

use super::options::Gathering;
use super::timeline::Planned;
use crate::events::{Random, Zipf};
use rustc_hash::FxHashMap;
use std::fmt::Write;

/// How many subscriptions an event of the standard mix matches on average.
const MATCHES: f64 = 20.0;
const FEED_KINDS: [u16; 4] = [1, 6, 1111, 30_023];
/// The share of [`FEED_KINDS`] in generated events.
const FEED_SHARE: f64 = 0.708;
const MENTION_KINDS: [u16; 5] = [1, 6, 7, 1111, 9735];
/// The most authors that a feed follows: as many as every relay takes in a filter.
const MAX_FOLLOWS: usize = 300;
/// How many authors of a feed are drawn evenly; the rest are drawn by how much they write.
const DRAWN_EVENLY: usize = 60;

/// The subscriptions of one connection: its feed and its mentions.
pub(super) const SLOTS: u32 = 2;

/// What the connections of one thread subscribe to.
#[derive(Debug)]
pub(super) struct SubscriberPlan {
    gathering: Gathering,
    /// For each connection, the ranks of the authors that it follows.
    follows: Vec<Box<[u32]>>,
    /// For each connection, the rank of its own key.
    selves: Vec<Option<u32>>,
    /// The keys, by rank; few where every connection follows all of them.
    keys: PubkeysByRank,
    by_author: FxHashMap<u32, Vec<u32>>,
    by_mention: FxHashMap<u32, Vec<u32>>,
}

/// Public keys in hex, by rank.
pub(super) type PubkeysByRank = std::sync::Arc<[String]>;

/// Which slots an event must reach.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The first slot of every subscribing connection.
    All,
    Slots(Vec<u32>),
}

impl SubscriberPlan {
    /// A plan for the connections of one thread, of which those marked in `subscribes` subscribe. `all` is the number
    /// of connections of all threads, over which events match [`MATCHES`] subscriptions on average.
    pub(super) fn new(
        gathering: Gathering,
        (keys, people): (PubkeysByRank, &Zipf),
        subscribes: &[bool],
        all: usize,
        random: &mut Random,
    ) -> Self {
        let mut subscriber_plan = Self {
            gathering,
            follows: vec![Box::default(); subscribes.len()],
            selves: vec![None; subscribes.len()],
            keys,
            by_author: FxHashMap::default(),
            by_mention: FxHashMap::default(),
        };

        if gathering == Gathering::Feeds {
            let coverage = (MATCHES / FEED_SHARE / all.max(1) as f64).min(1.0);
            for peer in (0..subscribes.len()).filter(|peer| subscribes[*peer]) {
                let follows = draw(people, subscriber_plan.keys.len(), coverage, random);
                let me = random.below(subscriber_plan.keys.len()) as u32;
                let slot = peer as u32 * SLOTS;
                follows.iter().for_each(|author| subscriber_plan.by_author.entry(*author).or_default().push(slot));
                subscriber_plan.by_mention.entry(me).or_default().push(slot + 1);
                subscriber_plan.follows[peer] = follows;
                subscriber_plan.selves[peer] = Some(me);
            }
        }
        subscriber_plan
    }

    /// How many subscriptions each subscribing connection has.
    pub(super) fn slots(&self) -> u32 {
        match self.gathering {
            Gathering::Nobody => 0,
            Gathering::Everyone => 1,
            Gathering::Feeds => SLOTS,
        }
    }

    /// Which slots `event` must reach.
    pub(super) fn of(&self, event: &Planned) -> Seen {
        let mut slots = Vec::new();
        match self.gathering {
            Gathering::Everyone => return Seen::All,
            Gathering::Nobody => {}
            Gathering::Feeds => {
                if FEED_KINDS.contains(&event.kind) {
                    slots.extend(self.by_author.get(&event.author).into_iter().flatten());
                }
                if MENTION_KINDS.contains(&event.kind) {
                    event.mentions.iter().for_each(|who| slots.extend(self.by_mention.get(who).into_iter().flatten()));
                    slots.sort_unstable();
                    slots.dedup();
                }
            }
        }
        Seen::Slots(slots)
    }

    /// The filter of a slot, for events from `since` on; `None` asks for live events only, whatever their dates.
    pub(super) fn filter(&self, slot: u32, since: Option<u64>) -> String {
        let (peer, part) = ((slot / SLOTS) as usize, slot % SLOTS);
        let mut filter = String::from("{");
        if self.gathering == Gathering::Everyone {
            push_keys(&mut filter, "authors", self.keys.iter());
        } else if part == 0 {
            let _ = write!(filter, "\"kinds\":{FEED_KINDS:?},");
            push_keys(&mut filter, "authors", self.follows[peer].iter().map(|author| &self.keys[*author as usize]));
        } else {
            let _ = write!(filter, "\"kinds\":{MENTION_KINDS:?},");
            push_keys(&mut filter, "#p", self.selves[peer].iter().map(|me| &self.keys[*me as usize]));
        }

        let _ = match since {
            Some(since) => write!(filter, ",\"since\":{since},\"limit\":{}}}", super::CATCH_UP),
            None => write!(filter, ",\"limit\":1}}"),
        };
        filter
    }
}

fn push_keys<'a>(filter: &mut String, name: &str, keys: impl Iterator<Item = &'a String>) {
    let _ = write!(filter, "\"{name}\":[");
    for (index, key) in keys.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(filter, "{comma}\"{key}\"");
    }
    filter.push(']');
}

/// Draws at least one author. Together they write `coverage` of all events on average: an author who would exceed it is
/// taken with the probability that keeps the average right.
fn draw(people: &Zipf, count: usize, coverage: f64, random: &mut Random) -> Box<[u32]> {
    let mut left = coverage;
    let mut follows = Vec::<u32>::new();
    for turn in 0..10 * MAX_FOLLOWS {
        if left <= 0.0 || follows.len() == MAX_FOLLOWS {
            break;
        }
        let author = if turn < DRAWN_EVENLY { random.below(count) } else { people.draw(random) } as u32;
        if follows.contains(&author) {
            continue;
        }
        let share = people.share(author as usize);
        if share <= left || random.unit() < left / share {
            follows.push(author);
        }
        left -= share;
    }

    if follows.is_empty() {
        follows.push(random.below(count) as u32);
    }
    follows.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_matches_about_20_feeds() {
        let people = Zipf::new(2_000, 0.9);
        let keys = (0..2_000).map(|rank| format!("{rank:064x}")).collect::<PubkeysByRank>();
        let subscribes = vec![true; 1_000];
        let subscriber_plan =
            SubscriberPlan::new(Gathering::Feeds, (keys, &people), &subscribes, 1_000, &mut Random::new(3));
        let mut random = Random::new(4);
        let mut matches = 0;
        for number in 0..10_000 {
            // The same share of feed kinds as in the mix.
            let kind = if random.unit() < FEED_SHARE { 1 } else { 9735 };
            let author = people.draw(&mut random) as u32;
            let event = Planned::new([0; 32], String::new(), (author, kind, number), Vec::new(), 0);
            let Seen::Slots(slots) = subscriber_plan.of(&event) else { panic!("not everyone") };
            matches += slots.len();
        }

        let average = matches as f64 / 10_000.0;
        assert!((18.0..22.0).contains(&average), "{average}");
    }

    #[test]
    fn filters_and_matches_agree() {
        let people = Zipf::new(50, 0.9);
        let keys = (0..50).map(|rank| format!("{rank:064x}")).collect::<PubkeysByRank>();
        let subscriber_plan = SubscriberPlan::new(
            Gathering::Feeds,
            (keys.clone(), &people),
            &[true, false, true],
            40,
            &mut Random::new(3),
        );

        for author in 0..50 {
            for kind in [0, 1, 7, 30_023] {
                let mentions = vec![(author + 1) % 50, (author + 7) % 50];
                let event = Planned::new([0; 32], String::new(), (author, kind, 0), mentions.clone(), 0);
                let Seen::Slots(slots) = subscriber_plan.of(&event) else { panic!("not everyone") };
                for slot in [0, 1, 4, 5] {
                    let filter: serde_json::Value =
                        serde_json::from_str(&subscriber_plan.filter(slot, Some(7))).unwrap();
                    let has = |name: &str, value: &str| filter[name].as_array().unwrap().iter().any(|key| key == value);
                    let kinds = filter["kinds"].as_array().unwrap().iter().any(|one| *one == kind);
                    let person = if slot % 2 == 0 {
                        has("authors", &keys[author as usize])
                    } else {
                        mentions.iter().any(|who| has("#p", &keys[*who as usize]))
                    };
                    assert_eq!(slots.contains(&slot), kinds && person, "slot {slot}, {event:?}");
                }
            }
        }
    }
}
