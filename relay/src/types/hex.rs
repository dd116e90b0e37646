//! NIP-01's hexadecimal: lowercase, exact length, nothing else.

use faster_hex::CheckCase;

/// Why a text is not the lowercase hex that NIP-01 asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// Too short or too long; carries the number of characters that were expected.
    #[error("must have exactly {0} hex characters")]
    Length(usize),
    /// An uppercase letter or a character that is no hex digit at all.
    #[error("must be lowercase hex")]
    Digit,
}

/// Decodes exactly `2 * N` lowercase hex characters.
pub(super) fn decode<const N: usize>(text: &[u8]) -> Result<[u8; N], HexError> {
    if text.len() != 2 * N {
        return Err(HexError::Length(2 * N));
    }
    faster_hex::hex_decode_array_with_case(text, CheckCase::Lower).map_err(|_| HexError::Digit)
}

/// Appends the lowercase hex of `bytes`.
pub(super) fn push(bytes: &[u8], out: &mut String) {
    faster_hex::hex_append(bytes, out);
}
