//! The address to connect to.

use std::net::{SocketAddr, ToSocketAddrs};

/// Why a URL cannot be connected to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not `ws://`.
    #[error("{0:?} does not start with ws:// (wss:// is not supported: measure behind the proxy that ends TLS)")]
    Scheme(String),
    /// The host has no address.
    #[error("cannot resolve {host:?}: {error}")]
    Resolve {
        /// Host and port as given.
        host: String,
        /// The resolver's error.
        error: std::io::Error,
    },
}

/// A relay's WebSocket URL, resolved once.
#[derive(Debug, Clone)]
pub struct Target {
    /// The first address that the host resolves to.
    pub address: SocketAddr,
    /// For the Host header.
    pub host: String,
    /// The path, at least `/`.
    pub path: String,
}

impl Target {
    /// Parses `ws://HOST[:PORT][/PATH]` and resolves the host. Blocks while it resolves.
    ///
    /// # Errors
    /// Another scheme, or a host without an address.
    pub fn resolve(url: &str) -> Result<Self, TargetError> {
        let rest = url.strip_prefix("ws://").ok_or_else(|| TargetError::Scheme(url.to_owned()))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
        let resolve = |error| TargetError::Resolve { host: with_port.clone(), error };
        let address = with_port.to_socket_addrs().map_err(resolve)?.next();
        let address = address.ok_or_else(|| resolve(std::io::ErrorKind::NotFound.into()))?;
        Ok(Self { address, host: host.to_owned(), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_maybe_a_port_and_maybe_a_path() {
        let target = Target::resolve("ws://127.0.0.1:7777").unwrap();
        assert_eq!((target.address.to_string().as_str(), target.path.as_str()), ("127.0.0.1:7777", "/"));
        let target = Target::resolve("ws://[::1]/a/b").unwrap();
        assert_eq!((target.address.to_string().as_str(), target.path.as_str()), ("[::1]:80", "/a/b"));
        assert!(matches!(Target::resolve("wss://127.0.0.1"), Err(TargetError::Scheme(_))));
    }
}
