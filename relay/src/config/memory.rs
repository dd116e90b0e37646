//! `[memory]`: how much this process may hold for its clients.

use serde::Deserialize;

/// `[memory]`: how much this process may hold for its clients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySettings {
    /// Bytes of rows, filters, outboxes and messages of all clients together; 0: a quarter of what the process may use.
    #[serde(rename = "clients_bytes")]
    pub clients_bytes_or_zero: usize,
}

impl MemorySettings {
    /// The smallest account: less would serve no client.
    pub const MIN_CLIENTS_BYTES: usize = 16 << 20;

    /// The setting in bytes; `None` where the relay is to choose.
    pub fn clients_bytes(&self) -> Option<usize> {
        (self.clients_bytes_or_zero > 0).then_some(self.clients_bytes_or_zero)
    }
}
