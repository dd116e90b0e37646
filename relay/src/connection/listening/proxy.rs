//! The PROXY protocol, version 2: how a TCP proxy says whose connection it forwards.
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use crate::connection::settings::ConnectionSettings;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The most bytes after the fixed part: addresses and extensions. The protocol allows 65,535; real headers, even with
/// a client certificate's name, take a few hundred.
const MAX_REST_BYTES: usize = 2_048;

/// Why a header was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// Only trusted proxies are believed.
    #[error("this is no trusted proxy")]
    Untrusted,
    /// The connection failed or ended before the header was whole.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Whatever it is, it is not a version 2 header.
    #[error("not a PROXY protocol v2 header")]
    NotAHeader,
    /// A command, family or length that the protocol does not define for a TCP proxy.
    #[error("a malformed PROXY protocol v2 header")]
    Malformed,
}

/// Reads the header that must come first and returns the client's address; the address of `peer` where the proxy speaks
/// for itself. The caller sets a deadline. Not cancel safe.
pub(super) async fn client_address(
    stream: &mut (impl AsyncRead + Unpin),
    peer: IpAddr,
    settings: &ConnectionSettings,
) -> Result<IpAddr, ProxyError> {
    if !settings.trusts(peer) {
        return Err(ProxyError::Untrusted);
    }
    Ok(read_header(stream).await?.map_or(peer, |client| client.ip()))
}

/// Reads exactly one header and returns the client's address; `None` where the proxy speaks for itself (a health
/// check) or does not know.
async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyError> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).await?;
    let [signature @ .., command, family, high, low] = &fixed;
    if signature != SIGNATURE {
        return Err(ProxyError::NotAHeader);
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_REST_BYTES {
        return Err(ProxyError::Malformed);
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match command {
        0x20 => Ok(None),
        0x21 => source(*family, &rest),
        _ => Err(ProxyError::Malformed),
    }
}

fn source(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let (address, port): (IpAddr, _) = match (family, rest) {
        (0x00, _) => return Ok(None),
        (0x11, [a, b, c, d, _, _, _, _, high, low, _, _, ..]) => (Ipv4Addr::new(*a, *b, *c, *d).into(), [*high, *low]),
        (0x21, rest) => {
            let source: &[u8; 16] = rest.first_chunk().ok_or(ProxyError::Malformed)?;
            let [high, low, _, _] = rest.get(32..36).ok_or(ProxyError::Malformed)? else {
                return Err(ProxyError::Malformed);
            };
            (Ipv6Addr::from(*source).into(), [*high, *low])
        }
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Some(SocketAddr::new(address.to_canonical(), u16::from_be_bytes(port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    async fn read(bytes: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
        let mut bytes = bytes;
        let read = read_header(&mut bytes).await;
        assert!(read.is_err() || bytes == b"GET", "exactly the header is read");
        read
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

    #[tokio::test]
    async fn the_clients_address_is_read_and_nothing_after_it() {
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        v6[15] = 9;
        v6[32..34].copy_from_slice(&443_u16.to_be_bytes());
        let with_extension = [&V4[..], &[0x04, 0, 1, 0]].concat();
        for (command, family, rest, expected) in [
            (0x21, 0x11, &V4[..], Some("192.0.2.7:8080")),
            (0x21, 0x11, &with_extension, Some("192.0.2.7:8080")),
            (0x21, 0x21, &v6, Some("[2001:db8::9]:443")),
            (0x21, 0x00, &[], None),
            (0x20, 0x00, &[], None),
            (0x20, 0x11, &V4, None),
        ] {
            let bytes = [header(command, family, rest), b"GET".to_vec()].concat();
            assert_eq!(read(&bytes).await.unwrap(), expected.map(|text| text.parse().unwrap()));
        }
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let good = header(0x21, 0x11, &V4);
        for (what, bytes) in [
            ("version 1", b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".to_vec()),
            ("an unknown command", header(0x22, 0x11, &V4)),
            ("an unknown version", header(0x11, 0x11, &V4)),
            ("datagrams", header(0x21, 0x12, &V4)),
            ("addresses cut short", header(0x21, 0x11, &V4[..11])),
            ("v6 addresses cut short", header(0x21, 0x21, &[0; 35])),
            ("a length beyond reason", header(0x20, 0x00, &vec![0; MAX_REST_BYTES + 1])),
            ("an early end", good[..20].to_vec()),
        ] {
            assert!(read_header(&mut bytes.as_slice()).await.is_err(), "{what}");
        }
    }
}
