//! HAProxy in front of one relay, with the timeouts that a cluster's front has.

use super::patiently;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;

/// A running HAProxy; it ends when it is dropped.
pub struct Front {
    pub address: SocketAddr,
    process: Child,
    _directory: tempfile::TempDir,
}

impl Front {
    pub async fn start(relay: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], deploy::free_port().unwrap()));
        let config = format!(
            "defaults\n    mode http\n    timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n    \
             timeout tunnel 1h\n    timeout client-fin 30s\n    timeout server-fin 30s\n\
             frontend front\n    bind {address}\n    default_backend relays\n\
             backend relays\n    server relay {relay}\n"
        );

        let path = directory.path().join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let mut haproxy = Command::new("haproxy");
        haproxy.args(["-db", "-f"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let process = haproxy.spawn().unwrap();
        patiently("HAProxy to listen", async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        Self { address, process, _directory: directory }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
