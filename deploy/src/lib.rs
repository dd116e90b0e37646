//! Starts, watches and stops a Skein cluster of real processes on one machine; also the kit of the tests.
//!
//! Whatever a test starts here ends with it: handles stop their processes when dropped, a panic included, and a
//! watchdog stops them when the test's own process dies. Whatever `deploy up` starts lives on.

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
