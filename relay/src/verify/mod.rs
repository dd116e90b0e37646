//! Signatures: by far the dearest step of an event's journey, so it is done last of all checks, on threads of its own.

mod workers;

pub use workers::Workers;

use crate::types::{Event, Verified};
use secp256k1::schnorr::Signature;
use secp256k1::{Secp256k1, VerifyOnly, XOnlyPublicKey};
use std::sync::Arc;

/// Checks BIP-340 signatures. Holds the curve's context; make one a thread.
pub struct Verifier {
    context: Secp256k1<VerifyOnly>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// A verifier with a context of its own.
    pub fn new() -> Self {
        Self { context: Secp256k1::verification_only() }
    }

    /// The event, vouched for, if its signature holds.
    pub fn verify(&self, event: &Arc<Event>) -> Option<Verified> {
        self.signature_holds(event).then(|| Verified::vouch(event.clone()))
    }

    /// True when the event's signature is its author's over its id (NIP-01). False also where the author is no point
    /// of the curve.
    pub fn signature_holds(&self, event: &Event) -> bool {
        let Ok(author) = XOnlyPublicKey::from_slice(event.pubkey().as_bytes()) else { return false };
        let signature = Signature::from_byte_array(*event.signature());
        self.context.verify_schnorr(&signature, event.id().as_bytes(), &author).is_ok()
    }
}

/// True when the event's signature holds. For a single event; many are checked faster by one [`Verifier`].
pub fn signature_holds(event: &Event) -> bool {
    Verifier::new().signature_holds(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EventId, Kind, PublicKey};
    use secp256k1::Keypair;

    /// An event by `author`, signed by `signer` over `sign(id)`.
    pub(super) fn event(author: u8, signer: u8, sign: impl FnOnce(&EventId) -> [u8; 32]) -> Event {
        let secp = Secp256k1::new();
        let keys = |seed: u8| Keypair::from_seckey_slice(&secp, &[seed; 32]).unwrap();
        let pubkey = PublicKey::from_bytes(keys(author).x_only_public_key().0.serialize());
        Event::build(pubkey, 1, Kind(1), &[], "signed", |id| {
            *secp.sign_schnorr_no_aux_rand(&sign(id), &keys(signer)).as_ref()
        })
    }

    #[test]
    fn only_the_authors_signature_of_the_id_holds() {
        let id = |id: &EventId| *id.as_bytes();
        assert!(signature_holds(&event(1, 1, id)));
        assert!(!signature_holds(&event(1, 2, id)), "another's signature");
        assert!(!signature_holds(&event(1, 1, |_| [7; 32])), "a signature of something else");
    }

    #[test]
    fn what_is_no_key_or_no_signature_does_not_hold() {
        let no_key = PublicKey::from_bytes([0xff; 32]);
        assert!(!signature_holds(&Event::build(no_key, 1, Kind(1), &[], "", |_| [0; 64])));
        let key = event(1, 1, |id| *id.as_bytes()).pubkey();
        for bytes in [[0; 64], [0xff; 64]] {
            assert!(!signature_holds(&Event::build(key, 1, Kind(1), &[], "", |_| bytes)));
        }
    }

    /// BIP-340's test vector 0 signs 32 zero bytes, which no event's id can be made to be; so this holds our use of
    /// the library against the NIP's own example instead (NIP-70's event, signed by another implementation).
    #[test]
    fn an_event_from_elsewhere_holds() {
        let json = r#"{"id":"cb8feca582979d91fe90455867b34dbf4d65e4b86e86b3c68c368ca9f9eef6f2","pubkey":"79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798","created_at":1707409439,"kind":1,"tags":[["-"]],"content":"hello members of the secret group","sig":"fa163f5cfb75d77d9b6269011872ee22b34fb48d23251e9879bb1e4ccbdd8aaaf4b6dc5f5084a65ef42c52fbcde8f3178bac3ba207de827ec513a6aa39fa684c"}"#;
        assert!(signature_holds(&Event::parse(json).unwrap()));
    }
}
