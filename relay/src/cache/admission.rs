//! Who may come in when there is no room: only what is asked more often than what it would push out (TinyLFU, Einziger,
//! Friedman and Manes, 2017). So a scan of a million queries, each asked once, changes nothing.

/// How many counters there are, and how many bits the door has for each.
const COUNTERS: usize = 1 << 16;
const DOOR_WORDS: usize = COUNTERS * 8 / 64;

/// After so many queries all that was counted is halved: what is no longer asked is forgotten.
const PERIOD: u32 = COUNTERS as u32;

/// How many places a query has.
const PLACES: u32 = 4;

/// About how often each query was asked of late. What was asked once stands in the door, a Bloom filter; what was
/// asked again, in a count-min sketch. 128 KiB, whatever is asked.
pub(super) struct Popularity {
    door: Box<[u64]>,
    counters: Box<[u8]>,
    noted: u32,
}

impl Popularity {
    pub(super) fn new() -> Self {
        Self { door: vec![0; DOOR_WORDS].into(), counters: vec![0; COUNTERS].into(), noted: 0 }
    }

    /// Notes that the query of this hash was asked. The hash must be one that nobody outside can foresee.
    pub(super) fn note(&mut self, hash: u64) {
        self.noted += 1;
        if self.noted >= PERIOD {
            self.age();
        }
        let mut known = true;
        for place in places(hash) {
            if let Some(word) = self.door.get_mut(place / 64 % DOOR_WORDS) {
                let bit = 1 << (place % 64);
                known &= *word & bit != 0;
                *word |= bit;
            }
        }
        if known {
            let count = self.count(hash);
            for place in places(hash) {
                if let Some(counter) = self.counters.get_mut(place >> 8)
                    && *counter == count
                {
                    *counter = counter.saturating_add(1);
                }
            }
        }
    }

    /// About how often the query of this hash was asked; never too little, but for what was halved.
    pub(super) fn of(&self, hash: u64) -> u32 {
        u32::from(self.count(hash)) + 1
    }

    fn count(&self, hash: u64) -> u8 {
        places(hash).filter_map(|place| self.counters.get(place >> 8)).copied().min().unwrap_or(0)
    }

    fn age(&mut self) {
        self.noted = 0;
        self.door.fill(0);
        self.counters.iter_mut().for_each(|counter| *counter /= 2);
    }
}

/// The places of a query, of 2^24: the low 19 bits are a place in the door, the high 16 one among the counters.
fn places(hash: u64) -> impl Iterator<Item = usize> {
    let (mut place, step) = (hash, hash.rotate_left(32) | 1);
    (0..PLACES).map(move |_| {
        place = place.wrapping_add(step);
        (place >> 40) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    #[test]
    fn what_is_asked_often_counts_more_than_what_is_asked_once() {
        let (mut popularity, secret) = (Popularity::new(), RandomState::new());
        let hash = |number: u64| secret.hash_one(number);
        for round in 0..20_u64 {
            (0..100).for_each(|hot| popularity.note(hash(hot)));
            (0..2_000).for_each(|cold| popularity.note(hash(1_000_000 + round * 2_000 + cold)));
        }
        let least = (0..100).map(|hot| popularity.of(hash(hot))).min().unwrap();
        assert!(least >= 15, "{least}");
        let wrong = (0..40_000).filter(|cold| popularity.of(hash(1_000_000 + cold)) > 3).count();
        assert!(wrong < 400, "{wrong} of 40,000 count as popular");
    }

    #[test]
    fn what_is_no_longer_asked_is_forgotten() {
        let (mut popularity, secret) = (Popularity::new(), RandomState::new());
        let hash = |number: u64| secret.hash_one(number);
        (0..200).for_each(|_| popularity.note(hash(7)));
        let before = popularity.of(hash(7));
        (0..u64::from(PERIOD) * 3).for_each(|other| popularity.note(hash(100 + other)));
        assert!(popularity.of(hash(7)) < before / 4, "{before}, then {}", popularity.of(hash(7)));
    }
}
