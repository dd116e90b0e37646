//! TLS: certificates from files, from an ACME authority or from one of this relay's own, and the handshakes with
//! clients. A leaf: `connection` is handed the [`Handshakes`], and `app` starts the rest.
//!
//! ```text
//! files ─────┐                       ┌── SNI ── handshake ──► TlsSocket ──► connection
//! acme ──────┼──► Certificates ◄─────┤
//! self_signed┘    Challenges ◄───────┴── acme-tls/1 (TLS-ALPN-01), http (HTTP-01)
//! ```

mod accept;
mod acme;
mod certificate;
mod certificates;
mod config;
mod directory;
mod files;
mod redirect;
mod self_signed;
mod service;
mod stream;
mod threads;

pub use accept::{HANDSHAKE_RECORD, HandshakeError, Handshakes};
pub use acme::{Acme, Pace};
pub use certificate::{AtFault, Certificate, CertificateError};
pub use certificates::{Certificates, Challenges};
pub use directory::{DirectoryError, StateDirectory};
pub use files::FileError;
pub use service::TlsService;
pub use stream::TlsSocket;
