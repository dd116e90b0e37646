//! The keyed hashes under which tags (and, in SQLite, authors) are indexed.

use crate::types::PublicKey;

/// Hashes under one database's secret, so that no client can make two values collide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hasher {
    key: (u64, u64),
    mask: u64,
}

impl Hasher {
    /// `bits` below 64 make values collide on purpose, for tests.
    pub(crate) fn new(secret: [u8; 16], bits: u32) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| secret[at + n]));
        Self { key: (word(0), word(8)), mask: u64::MAX.checked_shr(64 - bits.clamp(1, 64)).unwrap_or(u64::MAX) }
    }

    /// The hash of an author.
    pub(crate) fn author(&self, pubkey: &PublicKey) -> i64 {
        self.hash(0, pubkey.as_bytes())
    }

    /// The hash of a tag: its letter and its first value.
    pub(crate) fn tag(&self, letter: u8, value: &str) -> i64 {
        self.hash(letter, value.as_bytes())
    }

    fn hash(&self, domain: u8, bytes: &[u8]) -> i64 {
        (sip(self.key.0 ^ u64::from(domain), self.key.1, bytes) & self.mask).cast_signed()
    }
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012): a pseudo-random function of its key, at 20 ns a tag.
fn sip(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut v, u64::from_le_bytes(*word));
    }

    // The last word: the remaining bytes, and the length modulo 256 in the top byte.
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    absorb(&mut v, u64::from_le_bytes(last) | ((bytes.len() as u64) << 56));

    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_agrees_with_the_paper() {
        let word = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
        let k0 = word(std::array::from_fn(|n| n as u8));
        let k1 = word(std::array::from_fn(|n| n as u8 + 8));
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(sip(k0, k1, &message), 0xa129_ca61_49be_45e5);
        assert_eq!(sip(k0, k1, b""), 0x726f_db47_dd0e_0e31);
    }

    #[test]
    fn hashes_depend_on_secret_letter_and_value() {
        let (one, two) = (Hasher::new([1; 16], 64), Hasher::new([2; 16], 64));
        assert_ne!(one.tag(b'e', "x"), two.tag(b'e', "x"));
        assert_ne!(one.tag(b'e', "x"), one.tag(b'E', "x"));
        assert_ne!(one.tag(b'e', "x"), one.tag(b'e', "y"));
        assert!((0..8).contains(&Hasher::new([1; 16], 3).tag(b'e', "x")));
    }
}
