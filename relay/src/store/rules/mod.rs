//! The rules of NIP-01, NIP-09 and NIP-62 as pure functions, by which every store decides.

mod decide;
mod delete;
mod replace;
mod vanish;

pub(crate) use decide::{Decision, DecisionStep, EventPlace, Known, Versions, decide};
pub use delete::{Targets, may_delete, requesters, targets};
pub use replace::{Address, key, supersedes};
pub use vanish::Vanish;
pub(crate) use vanish::{SelectIds, barring_keys, vanish_floor};
