//! Replaceable and addressable events: their addresses, and which version wins (NIP-01).

use crate::types::{Event, Key, Kind, KindClass, PublicKey};
use sha2::{Digest, Sha256};

/// The address of a replaceable or addressable event. A store keeps only the newest version of each address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The kind, replaceable or addressable.
    pub kind: Kind,
    /// The author.
    pub pubkey: PublicKey,
    /// The first `d` value; empty for a replaceable kind.
    pub identifier: Box<str>,
}

impl Address {
    /// The address of `event`; `None` where its kind is neither replaceable nor addressable.
    pub fn of(event: &Event) -> Option<Self> {
        let identifier = match event.kind().class() {
            KindClass::Replaceable => "",
            KindClass::Addressable => event.identifier(),
            KindClass::Regular | KindClass::Ephemeral => return None,
        };
        Some(Self { kind: event.kind(), pubkey: event.pubkey(), identifier: identifier.into() })
    }

    /// Parses an `a` tag's value, `<kind>:<pubkey>:<d>`; `None` where no event can have that address.
    pub fn parse(value: &str) -> Option<Self> {
        let (kind, rest) = value.split_once(':')?;
        let (pubkey, identifier) = rest.split_once(':')?;
        if !kind.bytes().all(|byte| byte.is_ascii_digit()) || (kind.len() > 1 && kind.starts_with('0')) {
            return None;
        }
        let kind = Kind(kind.parse().ok()?);
        let pubkey = PublicKey::from_hex(pubkey.as_bytes()).ok()?;
        match kind.class() {
            KindClass::Addressable => {}
            KindClass::Replaceable if identifier.is_empty() => {}
            _ => return None,
        }
        Some(Self { kind, pubkey, identifier: identifier.into() })
    }

    /// The address in a database: 16 bytes of a SHA-256. The author is part of the hash, so an attack on someone else's
    /// address takes a second preimage.
    pub(crate) fn digest(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(self.kind.0.to_be_bytes());
        hash.update(self.pubkey.as_bytes());
        hash.update(self.identifier.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        std::array::from_fn(|n| digest[n])
    }
}

/// The key that orders `event` among the versions of its address, and among the rows of a page.
pub fn key(event: &Event) -> Key {
    Key { created_at: event.created_at(), id: event.id() }
}

/// True when version `new` replaces `old`: it is newer, or as old with a lower id.
pub fn supersedes(new: Key, old: Key) -> bool {
    new.order() < old.order()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::types::EventId;

    #[test]
    fn newer_wins_and_the_lowest_id_wins_a_tie() {
        let key = |created_at, id| Key { created_at, id: EventId::from_bytes([id; 32]) };
        assert!(supersedes(key(2, 9), key(1, 1)));
        assert!(!supersedes(key(1, 1), key(2, 9)));
        assert!(supersedes(key(1, 1), key(1, 2)));
        assert!(!supersedes(key(1, 2), key(1, 1)));
        assert!(!supersedes(key(1, 1), key(1, 1)));
    }

    #[test]
    fn addresses_are_read_strictly() {
        let pubkey = "ab".repeat(32);
        let address = Address::parse(&format!("30023:{pubkey}:a:b")).unwrap();
        assert_eq!((address.kind, &*address.identifier), (Kind(30023), "a:b"));
        assert!(Address::parse(&format!("0:{pubkey}:")).is_some());
        for bad in [
            format!("0:{pubkey}:x"),
            format!("0:{pubkey}"),
            format!("1:{pubkey}:"),
            format!("20001:{pubkey}:"),
            format!("+30023:{pubkey}:"),
            format!("030023:{pubkey}:"),
            format!("99999:{pubkey}:"),
            format!("30023:{}:", pubkey.to_uppercase()),
            format!(":{pubkey}:"),
            "30023".into(),
            String::new(),
        ] {
            assert_eq!(Address::parse(&bad), None, "{bad}");
        }
    }
}
