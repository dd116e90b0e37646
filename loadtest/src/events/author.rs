//! The authors of events: key pairs derived from the seed.

use super::random::Random;
use secp256k1::{Keypair, Secp256k1, SecretKey};
use std::num::NonZero;
use std::thread;

/// Key pairs, by rank: the first author writes most.
#[derive(Debug)]
pub struct Authors {
    pairs: Vec<Keypair>,
    hex: Vec<[u8; 64]>,
}

impl Authors {
    /// Derives `count` key pairs from `seed` on all cores (about 20 µs each).
    pub fn derive(seed: u64, count: usize) -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let mut pairs = Vec::with_capacity(count);
        thread::scope(|scope| {
            let part = count.div_ceil(threads).max(1);
            let workers = (0..count).step_by(part).map(|start| {
                scope.spawn(move || {
                    let secp = Secp256k1::signing_only();
                    (start..count.min(start + part))
                        .map(|author| Keypair::from_secret_key(&secp, &secret(seed, author)))
                        .collect::<Vec<_>>()
                })
            });
            for worker in workers.collect::<Vec<_>>() {
                pairs.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
        });

        let hex = pairs.iter().map(|pair| hex_of(&pair.x_only_public_key().0.serialize())).collect();
        Self { pairs, hex }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The public key of an author, in hex.
    pub fn hex(&self, author: usize) -> &str {
        std::str::from_utf8(&self.hex[author]).unwrap_or_default()
    }

    pub(super) fn pair(&self, author: usize) -> &Keypair {
        &self.pairs[author]
    }
}

fn secret(seed: u64, author: usize) -> SecretKey {
    let mut random = Random::new(seed ^ (author as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
    loop {
        let mut bytes = [0; 32];
        bytes.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.bits().to_be_bytes()));
        // Almost all 32-byte strings are valid keys; where one is not, the next one is tried.
        if let Ok(secret) = SecretKey::from_slice(&bytes) {
            return secret;
        }
    }
}

/// Lowercase hex, as NIP-01 wants it.
pub(super) fn hex_of<const N: usize, const M: usize>(bytes: &[u8; N]) -> [u8; M] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    const { assert!(M == 2 * N) };
    let mut hex = [0; M];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}
