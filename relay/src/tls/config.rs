//! How the relay speaks TLS: versions, names of protocols, tickets.

use super::certificates::{Certificates, Challenges};
use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::ResolvesServerCert;
use std::sync::Arc;
use tokio_rustls::rustls;

/// What a WebSocket is begun with (RFC 7301's list).
const HTTP_1_1: &[u8] = b"http/1.1";

/// What an ACME authority says that it wants to see a challenge (RFC 8737).
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// For clients: TLS 1.2 and 1.3 with rustls's defaults. Tickets are encrypted with a key that is renewed every 6 hours
/// and forgotten after 12. rustls knows no renegotiation; no early data, which could be replayed.
///
/// # Errors
/// The system has no randomness.
pub(super) fn for_clients(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = build(certificates)?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    config.ticketer = Ticketer::new()?;
    // One is enough for a client that comes back; each costs the handshake an encryption and the client memory.
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// For an ACME authority that looks at a challenge.
///
/// # Errors
/// None in practice: the provider supports the default versions.
pub(super) fn for_challenges(challenges: Arc<Challenges>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = build(challenges)?;
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    Ok(Arc::new(config))
}

fn build(resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    // Named, since another crate might install another provider for the process.
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    Ok(config.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(resolver))
}
