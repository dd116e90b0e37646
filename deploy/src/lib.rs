//! Starts, watches and stops a Skein cluster of real processes on one machine. The tests use it too.
//!
//! All processes that a test starts end with it: dropping a handle stops its process, also in a panic, and a watchdog
//! stops it when the test's own process dies. The processes that `deploy up` starts keep running.

mod error;
mod home;
mod http;
pub mod local;
pub mod network;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod recording;
pub mod redis;
pub mod relay;
mod wait;

pub use error::Error;
pub use home::{Home, free_port};
/// The signals that handles send.
pub use rustix::process::Signal;
pub use wait::{STEP_TIMEOUT, until};
