//! A certificate with its chain and key, read from PEM, and the errors that it can have.

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// The most certificates of one chain: real ones have two to four.
const MAX_CHAIN: usize = 10;

/// A certificate that can be served: it has names, is valid now, and its key fits.
#[derive(Debug)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names in lowercase, wildcards as they are written, and IP addresses.
    names: Vec<String>,
    not_before: ASN1Time,
    not_after: ASN1Time,
}

/// Which of the two files has the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtFault {
    /// The certificate and its chain.
    Chain,
    /// The private key.
    Key,
}

/// Why a pair cannot be served. The text says what to do, and never repeats a byte of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No certificate in the PEM.
    #[error(
        "holds no certificate: write PEM that begins with -----BEGIN CERTIFICATE-----, the relay's own certificate \
         first, then its chain"
    )]
    NoCertificate,
    /// A chain that is longer than any real one.
    #[error("holds {0} certificates, more than any chain: leave those of other names out")]
    LongChain(usize),
    /// PEM or DER that cannot be read.
    #[error("cannot be read as a certificate: {0}")]
    Malformed(String),
    /// No name that a client could ask for.
    #[error(
        "names no host in its subjectAltName, and clients look at nothing else: have it issued again with the relay's \
         name"
    )]
    NoName,
    /// The certificate has expired.
    #[error("has expired on {0}: renew it")]
    Expired(String),
    /// The certificate is not valid yet.
    #[error("is valid only from {0}: wait, or set this machine's clock right")]
    NotYetValid(String),
    /// No key in the PEM.
    #[error(
        "holds no private key: write PEM that begins with -----BEGIN PRIVATE KEY-----, BEGIN EC PRIVATE KEY or BEGIN \
         RSA PRIVATE KEY"
    )]
    NoKey,
    /// A key with a passphrase.
    #[error(
        "is encrypted, and nobody is there to type its passphrase: decrypt it with `openssl pkey -in KEY -out \
         PLAIN-KEY` and protect the file by its permissions"
    )]
    EncryptedKey,
    /// A key that rustls cannot use.
    #[error(
        "holds a key that cannot be used ({0}): make an ECDSA key (P-256, P-384) or an RSA key of 2048 bits or more"
    )]
    UnusableKey(String),
    /// A key of another certificate.
    #[error("is not the key of this certificate: name the pair that was made together")]
    KeyMismatch,
}

impl CertificateError {
    /// The file that must be fixed.
    pub fn at_fault(&self) -> AtFault {
        match self {
            Self::NoKey | Self::EncryptedKey | Self::UnusableKey(_) | Self::KeyMismatch => AtFault::Key,
            _ => AtFault::Chain,
        }
    }
}

impl Certificate {
    /// Reads a chain and its key, and checks everything but the dates.
    ///
    /// # Errors
    /// The first thing that keeps the pair from being served.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| CertificateError::Malformed(error.to_string()))?;
        let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
        if chain.len() > MAX_CHAIN {
            return Err(CertificateError::LongChain(chain.len()));
        }

        let malformed = |error: &dyn std::fmt::Display| CertificateError::Malformed(error.to_string());
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| malformed(&error))?;
        let names = parsed.subject_alternative_name().map_err(|error| malformed(&error))?;
        let names: Vec<_> =
            names.map(|names| &names.value.general_names).into_iter().flatten().filter_map(text).collect();
        if names.is_empty() {
            return Err(CertificateError::NoName);
        }
        let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);

        let private = private_key(key)?;
        let key = CertifiedKey::from_der(chain, private, &default_provider()).map_err(|error| match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateError::KeyMismatch,
            error => CertificateError::UnusableKey(error.to_string()),
        })?;
        Ok(Self { key: Arc::new(key), names, not_before, not_after })
    }

    /// Checks the dates of the certificate.
    ///
    /// # Errors
    /// [`CertificateError::Expired`] or [`CertificateError::NotYetValid`].
    pub fn check_time(&self) -> Result<(), CertificateError> {
        let now = ASN1Time::now();
        if now > self.not_after {
            return Err(CertificateError::Expired(self.not_after.to_string()));
        }
        if now < self.not_before {
            return Err(CertificateError::NotYetValid(self.not_before.to_string()));
        }
        Ok(())
    }

    /// The names that it certifies; logs and metrics use the first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The first name, for logs and metrics.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// True when a client that asks for `host`, a DNS name in lowercase or an IP address, accepts it. A wildcard
    /// matches one label (RFC 6125, 6.4.3).
    pub fn covers(&self, host: &str) -> bool {
        let parent = host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent);
        self.names.iter().any(|name| name == host || (parent.is_some() && name.strip_prefix("*.") == parent))
    }

    /// Seconds until it expires; below zero: it has expired.
    pub fn seconds_left(&self) -> i64 {
        self.not_after.timestamp() - ASN1Time::now().timestamp()
    }

    /// When it expires, as text.
    pub fn expires(&self) -> String {
        self.not_after.to_string()
    }

    /// How long it is valid, from its first second to its last.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs((self.not_after.timestamp() - self.not_before.timestamp()).max(0).unsigned_abs())
    }
}

/// A name in the form in which clients ask for it.
fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let contains = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    if contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED") {
        return Err(CertificateError::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| CertificateError::NoKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, date_time_ymd};

    fn pair(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn read(chain: &str, key: &str) -> Result<Certificate, CertificateError> {
        Certificate::from_pem(chain.as_bytes(), key.as_bytes())
    }

    #[test]
    fn a_pair_is_read_with_its_names_and_its_time() {
        let (chain, key) = pair(&["Relay.example.com", "*.example.org", "192.0.2.1", "2001:db8::1"], |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 11);
        });
        let read = read(&chain, &key).unwrap();
        assert_eq!(read.name(), "relay.example.com");
        for (host, covered) in [
            ("relay.example.com", true),
            ("a.example.org", true),
            ("a.b.example.org", false),
            ("example.org", false),
            (".example.org", false),
            ("192.0.2.1", true),
            ("2001:db8::1", true),
            ("192.0.2.2", false),
        ] {
            assert_eq!(read.covers(host), covered, "{host}");
        }
        assert_eq!(read.lifetime(), Duration::from_secs(10 * 24 * 3600));
        assert!(read.seconds_left() < 0 && read.expires().contains("2020"), "{}", read.expires());
    }

    #[test]
    fn keys_come_in_three_forms_and_any_other_text_around_them_is_left_out() {
        let (chain, key) = pair(&["a.example"], |_| {});
        read(&format!("Bag Attributes\n{chain}"), &format!("text\n{key}")).unwrap();
        for (what, chain, key) in [
            ("PKCS#1", include_str!("fixtures/rsa.crt"), include_str!("fixtures/rsa-pkcs1.key")),
            ("SEC1", include_str!("fixtures/p256.crt"), include_str!("fixtures/p256-sec1.key")),
        ] {
            read(chain, key).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }

    #[test]
    fn every_fault_is_named_and_says_which_file() {
        let (chain, key) = pair(&["a.example"], |_| {});
        let (nameless, nameless_key) = pair(&[], |_| {});
        let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n\
                             -----END RSA PRIVATE KEY-----\n";
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let garbage_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let many = chain.repeat(MAX_CHAIN + 1);
        for (chain, key, words, at_fault) in [
            ("", key.as_str(), "holds no certificate", AtFault::Chain),
            (key.as_str(), key.as_str(), "holds no certificate", AtFault::Chain),
            (garbage, key.as_str(), "cannot be read", AtFault::Chain),
            (many.as_str(), key.as_str(), "11 certificates", AtFault::Chain),
            (nameless.as_str(), nameless_key.as_str(), "names no host", AtFault::Chain),
            (chain.as_str(), "", "holds no private key", AtFault::Key),
            (chain.as_str(), chain.as_str(), "holds no private key", AtFault::Key),
            (chain.as_str(), encrypted, "is encrypted", AtFault::Key),
            (chain.as_str(), old_encrypted, "is encrypted", AtFault::Key),
            (chain.as_str(), garbage_key, "cannot be used", AtFault::Key),
            (chain.as_str(), other.as_str(), "is not the key", AtFault::Key),
        ] {
            let error = read(chain, key).unwrap_err();
            assert!(error.to_string().contains(words), "{words}: {error}");
            assert_eq!(error.at_fault(), at_fault, "{error}");
        }
    }

    #[test]
    fn the_clock_decides_whether_it_may_be_served() {
        let at = |from: i32, to: i32| {
            let (chain, key) = pair(&["a.example"], |params| {
                params.not_before = date_time_ymd(from, 1, 1);
                params.not_after = date_time_ymd(to, 1, 1);
            });
            read(&chain, &key).unwrap().check_time()
        };
        assert_eq!(at(2020, 4000), Ok(()));
        assert!(matches!(at(2020, 2021), Err(CertificateError::Expired(on)) if on.contains("2021")));
        assert!(matches!(at(3999, 4000), Err(CertificateError::NotYetValid(on)) if on.contains("3999")));
    }
}
