//! The served certificates, and the choice of the one that a client gets.

use super::certificate::Certificate;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_rustls::rustls;

/// One place for each certificate that the settings name; a place stays empty until its certificate is there. Read at
/// every handshake without a lock, written when a certificate is new.
#[derive(Debug)]
pub struct Certificates {
    places: ArcSwap<Vec<Option<Arc<Certificate>>>>,
    /// Orders writers, which copy the places.
    writing: Mutex<()>,
}

impl Certificates {
    /// A table of `places` empty places.
    pub fn new(places: usize) -> Self {
        Self { places: ArcSwap::from_pointee(vec![None; places]), writing: Mutex::new(()) }
    }

    /// Serves `certificate` at `place` from the next handshake on.
    pub fn set(&self, place: usize, certificate: Certificate) {
        let _writing = self.writing.lock();
        let mut places = Vec::clone(&self.places.load());
        if let Some(place) = places.get_mut(place) {
            *place = Some(Arc::new(certificate));
        }
        self.places.store(Arc::new(places));
    }

    /// The certificate at `place`.
    pub fn get(&self, place: usize) -> Option<Arc<Certificate>> {
        self.places.load().get(place).cloned().flatten()
    }

    /// All served certificates.
    pub fn all(&self) -> Vec<Arc<Certificate>> {
        self.places.load().iter().flatten().cloned().collect()
    }

    /// The certificate for a client that asks for `host`: one that covers it, else the first. So a client that sends no
    /// name, or connects by an address, learns at least which relay it has reached.
    fn find(&self, host: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let host = host.map(str::to_ascii_lowercase);
        let places = self.places.load();
        let covers = |certificate: &&Arc<Certificate>| host.as_deref().is_some_and(|host| certificate.covers(host));
        let found = places.iter().flatten().find(covers).or_else(|| places.iter().flatten().next());
        found.map(|certificate| certificate.key.clone())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(client_hello.server_name())
    }
}

/// The relay's answers to an ACME authority that checks whether it controls a name: certificates for TLS-ALPN-01
/// (RFC 8737), texts for HTTP-01 (RFC 8555, 8.3). Empty except during an order.
#[derive(Debug, Default)]
pub struct Challenges {
    certificates: Mutex<HashMap<String, Arc<CertifiedKey>>>,
    texts: Mutex<HashMap<String, String>>,
}

impl Challenges {
    /// Serves `certificate` to a client that asks for `domain` with `acme-tls/1`.
    pub fn show_certificate(&self, domain: &str, certificate: CertifiedKey) {
        self.certificates.lock().insert(domain.to_owned(), Arc::new(certificate));
    }

    /// Serves `text` at `/.well-known/acme-challenge/` and `token`.
    pub fn show_text(&self, token: &str, text: &str) {
        self.texts.lock().insert(token.to_owned(), text.to_owned());
    }

    /// The text at `token`.
    pub fn text(&self, token: &str) -> Option<String> {
        self.texts.lock().get(token).cloned()
    }

    /// Stops to serve the answers of `domain` and `token`.
    pub fn clear(&self, domain: &str, token: &str) {
        self.certificates.lock().remove(domain);
        self.texts.lock().remove(token);
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificates.lock().get(client_hello.server_name()?).cloned()
    }
}
