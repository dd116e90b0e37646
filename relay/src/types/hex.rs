//! NIP-01's hexadecimal: lowercase, exact length, nothing else.

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
    if text.iter().any(u8::is_ascii_uppercase) {
        return Err(HexError::Digit);
    }
    let mut bytes = [0; N];
    faster_hex::hex_decode(text, &mut bytes).map_err(|_| HexError::Digit)?;
    Ok(bytes)
}

/// Appends the lowercase hex of at most 64 `bytes` (a signature is the longest thing in hex here).
pub(super) fn push(bytes: &[u8], out: &mut String) {
    debug_assert!(bytes.len() <= 64, "longer than a signature");
    let mut digits = [0; 128];
    if let Ok(text) = faster_hex::hex_encode(bytes, &mut digits) {
        out.push_str(text);
    }
}
