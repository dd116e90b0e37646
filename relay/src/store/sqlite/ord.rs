//! The order of NIP-01 in one integer, and the other numbers under which this store indexes events.

use crate::types::{EventId, Key, Timestamp};

/// From this `created_at` on, [`ord`] is the same for all times.
pub(super) const SATURATED: Timestamp = (1 << 34) - 1;
const TIE_BITS: u32 = 29;
const TIE_MASK: i64 = (1 << TIE_BITS) - 1;

/// The rank of `key`: the greater, the earlier it is sent. Events of equal `ord` are ordered by their [`Key`].
pub(super) fn ord(key: Key) -> i64 {
    if key.created_at >= SATURATED {
        return ord_last(SATURATED);
    }
    let prefix = i64::try_from(key.id.prefix() >> (64 - TIE_BITS)).unwrap_or(TIE_MASK);
    (key.created_at.max(0) << TIE_BITS) | (TIE_MASK - prefix)
}

/// The least `ord` that an event of this second can have.
pub(super) fn ord_first(second: Timestamp) -> i64 {
    if second >= SATURATED { ord_last(SATURATED) } else { second.max(0) << TIE_BITS }
}

/// The greatest `ord` that an event of this second can have; -1 for a second before 1970.
pub(super) fn ord_last(second: Timestamp) -> i64 {
    if second < 0 { -1 } else { (second.min(SATURATED) << TIE_BITS) | TIE_MASK }
}

/// The first eight bytes of an id, as the column `event.id` has them.
pub(super) fn id_prefix(id: &EventId) -> i64 {
    id.prefix().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ord_sorts_as_keys_do() {
        let key = |created_at, byte| Key { created_at, id: EventId::from_bytes([byte; 32]) };
        let keys = [key(SATURATED - 1, 0), key(3, 0), key(2, 0), key(2, 1), key(2, 255), key(1, 7), key(0, 9)];
        for pair in keys.windows(2) {
            assert!(ord(pair[0]) > ord(pair[1]), "{pair:?}");
        }
        for key in keys {
            assert!((ord_first(key.created_at)..=ord_last(key.created_at)).contains(&ord(key)));
        }
        assert_eq!(ord(key(SATURATED, 3)), ord(key(i64::MAX, 9)));
        assert!(ord(key(SATURATED, 3)) > ord(key(SATURATED - 1, 0)));
        assert_eq!((ord_first(-5), ord_last(-5), ord_last(i64::MAX)), (0, -1, i64::MAX));
    }
}
