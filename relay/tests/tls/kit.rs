//! A test authority, pairs of files, and clients over wss.

use crate::process::{Relay, STEP_TIMEOUT};
use futures_util::{SinkExt, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// An authority of the test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key in PEM.
pub struct Pair {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name unlike those of the certificates that it issues: else OpenSSL takes those for self-signed.
        params.distinguished_name.push(DnType::CommonName, "the test's authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |_| {})
    }

    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        Pair { chain: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key`, each replaced by renaming, the key last.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let write = |extension: &str, text: &str| {
            let path = folder.join(format!("{name}.{extension}"));
            let part = folder.join(format!("{name}.{extension}.part"));
            std::fs::write(&part, text).unwrap();
            std::fs::rename(&part, &path).unwrap();
            path
        };
        (write("crt", &self.chain), write("key", &self.key))
    }

    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }
}

/// Where the relay listens for wss, the first address.
pub fn wss_address(relay: &Relay) -> SocketAddr {
    let line = relay.wait_for_log("TLS is on");
    line.split("wss://").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// How a client speaks TLS.
pub struct Tls {
    pub versions: &'static [&'static SupportedProtocolVersion],
    pub alpn: &'static [&'static [u8]],
}

impl Default for Tls {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, alpn: &[] }
    }
}

pub fn connector(root: &str, tls: &Tls) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_protocol_versions(tls.versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = tls.alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// One TLS handshake.
pub async fn handshake(
    connector: &TlsConnector,
    address: SocketAddr,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    timeout(STEP_TIMEOUT, connector.connect(name, tcp)).await.expect("the TLS handshake hangs")
}

/// The certificate that a client gets.
pub async fn served(connector: &TlsConnector, address: SocketAddr, name: &str) -> CertificateDer<'static> {
    let stream = handshake(connector, address, name).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// A client over wss.
pub struct Client(pub WebSocketStream<TlsStream<TcpStream>>);

impl Client {
    pub async fn connect(connector: &TlsConnector, address: SocketAddr, name: &str) -> Self {
        let stream = handshake(connector, address, name).await.unwrap();
        let (socket, _) = timeout(STEP_TIMEOUT, client_async(format!("wss://{name}/"), stream)).await.unwrap().unwrap();
        let mut client = Self(socket);
        assert_eq!(client.next().await[0], "AUTH", "the challenge comes first");
        client
    }

    pub async fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    pub async fn next(&mut self) -> Value {
        loop {
            match timeout(STEP_TIMEOUT, self.0.next()).await.expect("the relay says nothing") {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                end => panic!("the relay ended the connection: {end:?}"),
            }
        }
    }

    /// Fails unless the relay answers: the connection lives.
    pub async fn assert_served(&mut self) {
        self.send(&json!(["REQ", "alive?", {"limit": 0}])).await;
        assert_eq!(self.next().await, json!(["EOSE", "alive?"]));
        self.send(&json!(["CLOSE", "alive?"])).await;
    }
}

/// The value of a series of `/metrics`, 0 where it is missing: `name{label="value"}`.
pub fn metric(relay: &Relay, series: &str) -> f64 {
    let (status, text) = crate::process::http_get(relay.admin_address(), "/metrics", "*/*");
    assert_eq!(status, 200);
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Polls until `reached`; fails naming `what`.
pub async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !reached() {
        assert!(begun.elapsed() < STEP_TIMEOUT, "waited {STEP_TIMEOUT:?} for {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
