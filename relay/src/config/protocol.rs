//! `[protocol]`: which proposals and extensions of the protocol are on.

use serde::Deserialize;

/// `[protocol]`: parts of the protocol that not every client copes with. A reload changes all of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolSettings {
    /// EOSE says whether there is more (NIP-67).
    pub eose_hints: bool,
    /// Filters may have `&x` conditions (NIP-91, a proposal).
    pub and_tags: bool,
}
