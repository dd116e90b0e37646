//! The buffer that tungstenite reads into.

/// The size of the buffer. Small: it is most of what an idle connection costs.
pub(super) const READ_BUFFER_BYTES: usize = 4096;

/// A buffer for a new connection. It is allocated before the handshake, so that what the handshake allocates and frees
/// leaves no hole behind it.
pub(in crate::connection) fn read_buffer() -> Vec<u8> {
    Vec::with_capacity(READ_BUFFER_BYTES)
}
