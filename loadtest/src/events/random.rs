//! Random numbers that stay the same whatever the version of a library, and Zipf's distribution.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): small, and good enough for
/// data sets. Not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `end - 1`; 0 for an empty range.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// A number from 0 to 1, without the 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `items`.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Ranks from 0 on, each drawn in proportion to `1 / (rank + 1) ^ exponent`.
#[derive(Debug, Clone)]
pub struct Zipf {
    /// For each rank, the share of all ranks up to it.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// The distribution over `ranks` ranks.
    pub fn new(ranks: usize, exponent: f64) -> Self {
        Self::weighted((1..=ranks).map(|rank| (rank as f64).powf(-exponent)))
    }

    /// Ranks drawn in proportion to any weights, of which one at least is above 0.
    pub fn weighted(weights: impl Iterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let mut cumulative = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect::<Vec<_>>();
        cumulative.iter_mut().for_each(|share| *share /= sum);
        Self { cumulative }
    }

    /// The share of a rank, from 0 to 1; 0 for a rank beyond the last.
    pub fn share(&self, rank: usize) -> f64 {
        let up_to = |rank: usize| self.cumulative.get(rank).copied().unwrap_or(0.0);
        up_to(rank) - if rank == 0 { 0.0 } else { up_to(rank - 1) }
    }

    /// Draws a rank.
    pub fn draw(&self, random: &mut Random) -> usize {
        let at = random.unit();
        self.cumulative.partition_point(|share| *share <= at).min(self.cumulative.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // The reference implementation's first numbers for seed 1234567.
        let mut random = Random::new(1_234_567);
        assert_eq!([random.bits(), random.bits()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn zipf_draws_each_rank_in_its_share() {
        let (zipf, mut random) = (Zipf::new(100, 0.9), Random::new(1));
        let mut hits = [0u32; 100];
        (0..200_000).for_each(|_| hits[zipf.draw(&mut random)] += 1);
        let sum = (1..=100).map(|rank| f64::from(rank).powf(-0.9)).sum::<f64>();
        for rank in [1u32, 2, 10, 100] {
            let expected = 200_000.0 * f64::from(rank).powf(-0.9) / sum;
            let got = f64::from(hits[rank as usize - 1]);
            assert!((got - expected).abs() < 6.0 * expected.sqrt(), "rank {rank}: {got} of {expected}");
        }
    }
}
