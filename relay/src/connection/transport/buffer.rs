//! The buffer that tungstenite reads into.

/// The size of the buffer, a size class of the allocator. Small, since each idle connection has one: with 4,096 bytes
/// publishing was no faster. It holds three or four events of the usual size.
pub(super) const READ_BUFFER_BYTES: usize = 2560;

/// A buffer for a new connection. It is allocated before the handshake, so that what the handshake allocates and frees
/// leaves no hole behind it.
pub(in crate::connection) fn read_buffer() -> Vec<u8> {
    Vec::with_capacity(READ_BUFFER_BYTES)
}
