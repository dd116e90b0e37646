//! Helpers of the end-to-end tests: a relay in this process, clients over real sockets, and authors that sign.
//!
//! Nothing here sleeps to let something happen: every wait is for a message or a state, with [`STEP_TIMEOUT`] as the
//! deadline after which the test fails.

#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, clippy::unwrap_used)]

mod author;
mod child;
mod client;
mod front;
mod held;
pub mod raw;
mod relay;

pub use author::Author;
pub use child::{Child, child};
pub use client::{Client, Goodbye};
pub use front::Front;
pub use held::Held;
pub use relay::{Relay, Setup};

use std::time::Duration;

/// How long a test waits for one step before it fails.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits for `future`, or fails naming `what`.
pub async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(STEP_TIMEOUT, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {STEP_TIMEOUT:?} for {what}"),
    }
}

/// Waits until `reached` is true, asking every few milliseconds; fails naming `what`.
pub async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    patiently(what, async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
