//! `[tls]`: the listeners for wss, and where their certificates come from.

use super::values;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The ACME directories of Let's Encrypt and of its staging environment.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// `[tls]`: wss without a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The addresses on which the relay listens for wss; empty: none.
    #[serde(deserialize_with = "values::addresses")]
    pub listen: Vec<SocketAddr>,
    /// PEM files, each with a certificate and its chain.
    pub certificate: Vec<PathBuf>,
    /// PEM files, each with the private key of the certificate at the same index.
    pub key: Vec<PathBuf>,
    /// Names for which certificates are obtained by ACME.
    pub domains: Vec<String>,
    /// The account's mail address; empty: none.
    pub acme_contact: String,
    /// The authority as the operator names it; [`acme_directory_url`](Self::acme_directory_url) is its URL.
    pub acme_directory: String,
    /// A PEM file with the root certificate for https to a private authority; written empty, `None`: the system's
    /// roots.
    #[serde(deserialize_with = "values::path_or_none")]
    pub acme_root: Option<PathBuf>,
    /// The directory for accounts, certificates and keys.
    pub directory: PathBuf,
    /// The addresses on which the relay listens for http: challenges, and redirects to https. Empty: none.
    #[serde(deserialize_with = "values::addresses")]
    pub http_listen: Vec<SocketAddr>,
    /// Whether the relay signs its certificate itself.
    pub self_signed: bool,
    /// The longest time from a connection's start to the end of its TLS handshake.
    #[serde(rename = "handshake_timeout_seconds", deserialize_with = "values::seconds")]
    pub handshake_timeout: Duration,
    /// The most handshakes at the same time.
    pub max_handshakes: usize,
    /// Threads that compute handshakes; 0: [`handshake_threads`](Self::handshake_threads) chooses.
    #[serde(rename = "handshake_threads")]
    pub handshake_threads_or_zero: usize,
}

impl TlsSettings {
    /// True where the relay listens for wss.
    pub fn is_on(&self) -> bool {
        !self.listen.is_empty()
    }

    /// The authority's directory.
    pub fn acme_directory_url(&self) -> &str {
        match self.acme_directory.as_str() {
            "letsencrypt" => LETS_ENCRYPT,
            "letsencrypt-staging" => LETS_ENCRYPT_STAGING,
            url => url,
        }
    }

    /// Threads that compute handshakes: the setting, or one for four cores, at least 1.
    pub fn handshake_threads(&self) -> usize {
        match self.handshake_threads_or_zero {
            0 => (values::cores() / 4).max(1),
            set => set,
        }
    }
}
