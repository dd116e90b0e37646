//! A real ACME server and its DNS server (Debian: `pebble`), as two processes.

use crate::kit::{Authority, Tls, connector, handshake, until};
use crate::process::STEP_TIMEOUT;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The running processes. Dropping it ends both.
pub struct Pebble {
    server: Child,
    dns: Child,
    management: SocketAddr,
    dns_management: SocketAddr,
    authority: Authority,
    config: PathBuf,
    dns_address: SocketAddr,
    directory: SocketAddr,
    reject_nonces_percent: u32,
}

/// The options of Pebble.
pub struct PebbleSetup {
    /// The ports at which it looks for TLS-ALPN-01 and HTTP-01.
    pub tls_port: u16,
    pub http_port: u16,
    /// How long its certificates are valid.
    pub life_seconds: u64,
    pub reject_nonces_percent: u32,
}

impl Default for PebbleSetup {
    fn default() -> Self {
        Self { tls_port: free_port(), http_port: free_port(), life_seconds: 90 * 24 * 3600, reject_nonces_percent: 15 }
    }
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    free_address().port()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Pebble {
    /// Starts both in `folder` and waits until the server answers. Every name points to 127.0.0.1.
    pub async fn start(folder: &Path, setup: PebbleSetup) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.issue(&["localhost", "127.0.0.1"]).write(folder, "pebble");
        std::fs::write(folder.join("pebble-root.pem"), &authority.pem).unwrap();
        let (directory, management) = (free_address(), free_address());
        let (dns_address, dns_management) = (free_address(), free_address());
        let config = folder.join("pebble.json");
        let settings = json!({"pebble": {
            "listenAddress": directory.to_string(), "managementListenAddress": management.to_string(),
            "certificate": certificate, "privateKey": key, "httpPort": setup.http_port, "tlsPort": setup.tls_port,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
            "domainBlocklist": ["blocked.example"], "certificateValidityPeriod": setup.life_seconds,
        }});

        std::fs::write(&config, settings.to_string()).unwrap();
        let mut dns = Command::new("pebble-challtestsrv");
        dns.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", "-defaultIPv4", "127.0.0.1"]);
        dns.args(["-dns01", &dns_address.to_string(), "-management", &dns_management.to_string()]);
        let dns = quiet(&mut dns);
        let server = serve(&config, dns_address, setup.reject_nonces_percent);
        let reject_nonces_percent = setup.reject_nonces_percent;
        let pebble = Self {
            server,
            dns,
            management,
            dns_management,
            authority,
            config,
            dns_address,
            directory,
            reject_nonces_percent,
        };

        pebble.wait().await;
        pebble
    }

    /// Ends the server: an authority that is down.
    pub fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts it again. It has no accounts and orders of before.
    pub async fn start_again(&mut self) {
        self.server = serve(&self.config, self.dns_address, self.reject_nonces_percent);
        self.wait().await;
    }

    async fn wait(&self) {
        until("Pebble and its DNS", || {
            [self.directory, self.management, self.dns_management]
                .iter()
                .all(|address| std::net::TcpStream::connect(address).is_ok())
        })
        .await;
    }

    /// Its directory, for `tls.acme_directory`.
    pub fn directory_url(&self) -> String {
        format!("https://localhost:{}/dir", self.directory.port())
    }

    /// The root of its certificates, which is another one after each start.
    pub async fn root(&self) -> String {
        let trusting = connector(&self.authority.pem, &Tls::default());
        let mut stream = handshake(&trusting, self.management, "localhost").await.unwrap();
        stream.write_all(b"GET /roots/0 HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        // Pebble may close without a TLS close_notify.
        let _ = tokio::time::timeout(STEP_TIMEOUT, stream.read_to_string(&mut answer)).await.unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Makes a name point to an address.
    pub async fn point(&self, name: &str, address: &str) {
        self.tell_dns("clear-a", &json!({"host": format!("{name}.")})).await;
        self.tell_dns("add-a", &json!({"host": format!("{name}."), "addresses": [address]})).await;
    }

    async fn tell_dns(&self, path: &str, body: &serde_json::Value) {
        let mut stream = tokio::net::TcpStream::connect(self.dns_management).await.unwrap();
        let body = body.to_string();
        let request = format!("POST /{path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in [&mut self.server, &mut self.dns] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn serve(config: &Path, dns: SocketAddr, reject_nonces_percent: u32) -> Child {
    let mut server = Command::new("pebble");
    server.arg("-config").arg(config).args(["-dnsserver", &dns.to_string()]);
    server.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
    quiet(server.env("PEBBLE_WFE_NONCEREJECT", reject_nonces_percent.to_string()))
}

fn quiet(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}: run `make deps`"))
}
