//! A real HAProxy, and fake relays that do only what HAProxy sees of a relay.

#![allow(dead_code, unreachable_pub, unused_imports)] // each test file uses a part

mod front;
mod relay;
mod tls;

pub use front::{Front, Socket};
pub use relay::FakeRelay;
pub use tls::{Certificate, handshake};

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

/// The timeout of each step.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Compares with a file under `tests/golden`.
pub fn golden(name: &str, text: &str) {
    reviewed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name), text);
}

/// Compares with a file, or writes it where `UPDATE_GOLDEN` is set.
pub fn reviewed(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(reviewed == text, "{} is not the reviewed one; UPDATE_GOLDEN=1 rewrites it:\n{text}", path.display());
}

/// Polls until `what` holds.
pub async fn until(name: &str, what: impl AsyncFn() -> bool) {
    let look = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, look).await.unwrap_or_else(|_| panic!("not within {STEP_TIMEOUT:?}: {name}"));
}

/// An address on which no program listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
