//! A certificate authority of this relay's own, for devices on the same network. It is made once and stored; a device
//! trusts it only after its owner has installed it.

use super::certificate::Certificate;
use super::directory::StateDirectory;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls;

/// The files of the authority's certificate, which clients install, and of its key.
const AUTHORITY: &str = "self-signed-authority.pem";
const AUTHORITY_KEY: &str = "self-signed-authority.key";

/// How long the authority is valid: long, so that a device needs to install it only once.
const AUTHORITY_LIFE: Duration = Duration::days(3650);

/// How long a certificate is valid. iOS takes no more than 825 days from an authority that its owner trusts.
const LIFE: Duration = Duration::days(397);

/// How far the clocks of clients may be behind.
const SKEW: Duration = Duration::days(1);

/// The served certificate, and what the owner of a device needs to trust it.
#[derive(Debug)]
pub(super) struct SelfSigned {
    pub(super) certificate: Certificate,
    /// The authority's certificate, for clients.
    pub(super) authority: PathBuf,
    /// SHA-256 of the authority's certificate, as devices show it.
    pub(super) fingerprint: String,
}

/// Why it could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum SelfSignedError {
    #[error("the certificates of tls.self_signed cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("the authority of tls.self_signed cannot be kept: {0}")]
    Keep(#[from] std::io::Error),
    #[error("{} is damaged ({error}): remove it, and have clients trust the new one", path.display())]
    Damaged {
        /// The path of the authority's certificate; its key is beside it.
        path: PathBuf,
        /// The error.
        error: String,
    },
    #[error("the certificate of tls.self_signed {0}")]
    Useless(#[from] super::certificate::CertificateError),
}

/// Makes a certificate for `names`, signed by the authority in the directory, which is made where it is missing.
///
/// # Errors
/// The part that cannot be made, stored or read.
pub(super) fn make(state: &StateDirectory, names: Vec<String>) -> Result<SelfSigned, SelfSignedError> {
    let (pem, key) = authority(state)?;
    let damaged = |error: &dyn std::fmt::Display| SelfSignedError::Damaged {
        path: state.path_of(AUTHORITY),
        error: error.to_string(),
    };
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| damaged(&error))?;
    let key = KeyPair::from_pem(&key).map_err(|error| damaged(&error))?;
    let issuer = Issuer::new(authority_params(), key);

    let now = OffsetDateTime::now_utc();
    let leaf_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = subject("Skein relay");
    (params.not_before, params.not_after) = (now - SKEW, now + LIFE);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&leaf_key, &issuer)?;
    let chain = format!("{}{pem}", leaf.pem());
    Ok(SelfSigned {
        certificate: Certificate::from_pem(chain.as_bytes(), leaf_key.serialize_pem().as_bytes())?,
        authority: state.path_of(AUTHORITY),
        fingerprint: fingerprint(&der),
    })
}

/// The authority's certificate and key in PEM.
fn authority(state: &StateDirectory) -> Result<(String, String), SelfSignedError> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if let (Some(pem), Some(key)) = (state.read(AUTHORITY)?, state.read(AUTHORITY_KEY)?) {
        return Ok((text(pem), text(key)));
    }
    let key = KeyPair::generate()?;
    let pem = authority_params().self_signed(&key)?.pem();
    let key = key.serialize_pem();
    // The key first: a certificate without its key would be taken for a damaged one.
    state.write(AUTHORITY_KEY, key.as_bytes())?;
    state.write(AUTHORITY, pem.as_bytes())?;
    Ok((pem, key))
}

fn authority_params() -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("Skein relay: authority of this machine");
    (params.not_before, params.not_after) = (now - SKEW, now + AUTHORITY_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// SHA-256 in the form that devices show.
fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// The names and addresses by which this machine can be reached on its network.
pub(super) fn names_of_this_machine() -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let is_plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if is_plain && host != "localhost" {
        // The mDNS name, by which devices of one network find each other.
        names.push(if host.contains('.') { host.clone() } else { format!("{host}.local") });
        names.push(host);
    }
    names.extend(["192.0.2.1:9", "[2001:db8::1]:9"].into_iter().filter_map(outgoing_address).map(|ip| ip.to_string()));
    names.sort();
    names.dedup();
    names
}

/// The source address of packets to `target`. Sends nothing: to connect a UDP socket only asks the routing table.
fn outgoing_address(target: &str) -> Option<IpAddr> {
    let target: SocketAddr = target.parse().ok()?;
    let any: SocketAddr = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().ok()?;
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_made_once_and_vouches_for_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(folder.path()).unwrap();
        let names = || vec!["localhost".to_owned(), "192.0.2.7".to_owned()];
        let first = make(&state, names()).unwrap();
        let second = make(&state, names()).unwrap();
        assert_eq!(first.fingerprint, second.fingerprint);
        assert_eq!(first.fingerprint.len(), 95);
        assert!(second.certificate.covers("localhost") && second.certificate.covers("192.0.2.7"));
        second.certificate.check_time().unwrap();
        assert!(second.certificate.lifetime().as_secs() < 825 * 24 * 3600, "iOS takes no longer one");

        std::fs::write(state.path_of(AUTHORITY_KEY), "x").unwrap();
        assert!(make(&state, names()).unwrap_err().to_string().contains("is damaged"));
    }

    #[test]
    fn this_machine_has_names() {
        let names = names_of_this_machine();
        assert!(names.iter().any(|name| name == "localhost"), "{names:?}");
    }
}
