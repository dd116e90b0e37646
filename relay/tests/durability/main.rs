//! What an OK promises, against the real binary: crashes, fsync, full disks, locks, and orderly ends.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../process/mod.rs"]
mod process;

mod kill;
mod lock;
mod space;
mod stop;
mod sync;
