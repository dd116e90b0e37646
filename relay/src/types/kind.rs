//! Kinds and the class each belongs to (NIP-01).

/// An event's kind, 0 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

/// How a relay keeps events of a kind (NIP-01, "Kinds").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KindClass {
    /// Every event is kept.
    Regular,
    /// Only the newest of a (pubkey, kind) is kept.
    Replaceable,
    /// Never stored.
    Ephemeral,
    /// Only the newest of a (pubkey, kind, `d`) is kept.
    Addressable,
}

impl Kind {
    /// NIP-09: a request to delete.
    pub const DELETION: Self = Self(5);
    /// NIP-62: a request to vanish.
    pub const VANISH: Self = Self(62);
    /// NIP-18: a repost of a text note, the note embedded in its content.
    pub const REPOST: Self = Self(6);
    /// NIP-18: a repost of anything else.
    pub const GENERIC_REPOST: Self = Self(16);
    /// NIP-04: an encrypted direct message.
    pub const ENCRYPTED_DIRECT_MESSAGE: Self = Self(4);
    /// NIP-59: a gift wrap.
    pub const GIFT_WRAP: Self = Self(1059);
    /// NIP-59: a gift wrap that is not kept.
    pub const EPHEMERAL_GIFT_WRAP: Self = Self(21059);
    /// NIP-42: the answer to a challenge.
    pub const CLIENT_AUTHENTICATION: Self = Self(22242);

    /// The class that decides how events of this kind are kept.
    pub const fn class(self) -> KindClass {
        match self.0 {
            0 | 3 | 10_000..=19_999 => KindClass::Replaceable,
            20_000..=29_999 => KindClass::Ephemeral,
            30_000..=39_999 => KindClass::Addressable,
            _ => KindClass::Regular,
        }
    }
}
