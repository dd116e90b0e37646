//! The two 32-byte identifiers of Nostr.

use super::hex::{self, HexError};
use std::fmt;

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes the raw bytes as they are.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Reads exactly 64 lowercase hex characters, as NIP-01 demands.
            pub fn from_hex(text: &[u8]) -> Result<Self, HexError> {
                hex::decode(text).map(Self)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Appends the 64 lowercase hex characters.
            pub fn push_hex(&self, out: &mut String) {
                hex::push(&self.0, out);
            }

            /// The 64 lowercase hex characters.
            pub fn to_hex(&self) -> String {
                let mut out = String::with_capacity(64);
                self.push_hex(&mut out);
                out
            }

            /// The first eight bytes as a number: a ready-made hash, since the bytes are uniformly distributed.
            /// An attacker can choose them, so a hash table must mix them with a secret.
            pub fn prefix(&self) -> u64 {
                let mut first = [0; 8];
                first.copy_from_slice(&self.0[..8]);
                u64::from_be_bytes(first)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

bytes32! {
    /// An event's id: SHA-256 of its canonical serialisation (NIP-01). Its order is the order of ties.
    EventId
}

bytes32! {
    /// An author: an x-only secp256k1 public key (BIP-340). Not checked to lie on the curve.
    PublicKey
}
