//! Admission (TinyLFU: Einziger, Friedman and Manes, 2017): a full cache admits only what is requested more often than
//! what it would evict. So a scan of a million filters, each requested once, changes nothing.

/// The number of counters of the sketch, and of 64-bit words of the doorkeeper: eight bits for each counter.
const COUNTERS: usize = 1 << 16;
const DOOR_WORDS: usize = COUNTERS * 8 / 64;

/// After this many requests every count is halved, so that old popularity fades.
const PERIOD: u32 = COUNTERS as u32;

/// Hash functions of the doorkeeper and of the sketch.
const PLACES: u32 = 4;

/// An estimate of how often each key was requested lately. The first request only sets bits in the doorkeeper, a Bloom
/// filter; each later one counts in a count-min sketch. 128 KiB in all, however many keys there are.
pub(super) struct Popularity {
    door: Box<[u64]>,
    counters: Box<[u8]>,
    noted: u32,
}

impl Popularity {
    pub(super) fn new() -> Self {
        Self { door: vec![0; DOOR_WORDS].into(), counters: vec![0; COUNTERS].into(), noted: 0 }
    }

    /// Counts a request. The hash must be one that no client can foresee, or a client could raise other keys' counts.
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

    /// About how often the key of this hash was requested. Never an underestimate, the halving aside.
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

/// The places of a key, 24 bits each: the low 19 bits are a bit of the doorkeeper, the high 16 a counter.
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
