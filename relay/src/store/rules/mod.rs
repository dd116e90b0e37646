//! The rules of NIP-01 and NIP-09 as pure functions, by which every store decides.

mod decide;
mod delete;
mod replace;

pub(crate) use decide::{Decision, Known, Place, Step, Versions, decide};
pub use delete::{Targets, may_delete, requesters, targets};
pub use replace::{Address, key, supersedes};
