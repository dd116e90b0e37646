//! The cache of hot filters: answers kept exact by the log instead of young by a clock.
//!
//! An answer is a snapshot like any other, rows and the head that they are exact as of; whoever takes one brings it up
//! to date with the log's tail. So a cache can serve what is old, never what is wrong.

mod entry;
mod key;
mod layer;
mod purge;
pub mod shared;

pub use entry::{Entry, Keyed};
pub use key::{FilterKey, ReaderClass};
pub use layer::{NoLayer, SharedLayer};
pub use purge::{Purge, PurgeError};
