//! Signatures: by far the dearest step of an event's journey, so it is done last of all checks, on threads of its own.

mod workers;

pub use workers::{Checker, Workers};

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

    /// NIP-13's example, signed by another implementation.
    #[test]
    fn an_event_from_elsewhere_holds() {
        let json = concat!(
            r#"{"id":"000006d8c378af1779d2feebc7603a125d99eca0ccf1085959b307f64e5dd358","#,
            r#""pubkey":"a48380f4cfcc1ad5378294fcac36439770f9c878dd880ffa94bb74ea54a6f243","created_at":1651794653,"#,
            r#""kind":1,"tags":[["nonce","776797","20"]],"content":"It's just me mining my own business","#,
            r#""sig":"284622fc0a3f4f1303455d5175f7ba962a3300d136085b9566801bc2e0699de0"#,
            r#"c7e31e44c81fb40ad9049173742e904713c3594a1da0fc5d2382a25c11aba977"}"#,
        );
        assert!(signature_holds(&Event::parse(json).unwrap()));
    }
}
