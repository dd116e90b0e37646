//! A TLS stream that knows how much its socket has taken: whether a slow client makes progress cannot be seen from the
//! outside, where rustls takes more than the socket.

use rustls::HandshakeKind;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls;
use tokio_rustls::server::TlsStream;

/// TCP, and how many bytes it has taken.
#[derive(Debug)]
pub(super) struct CountedTcp {
    stream: TcpStream,
    taken_bytes: u64,
}

impl CountedTcp {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, taken_bytes: 0 }
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let written = ready!(written)?;
        self.taken_bytes += written as u64;
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for CountedTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CountedTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A client's TLS stream after its handshake. What is written may wait in it, up to a bound: flush it, and it is done
/// once the socket has taken everything.
#[derive(Debug)]
pub struct TlsSocket(TlsStream<CountedTcp>);

impl TlsSocket {
    pub(super) fn new(stream: TlsStream<CountedTcp>) -> Self {
        Self(stream)
    }

    /// The encrypted bytes that the socket has taken so far, the handshake's among them.
    pub fn taken_bytes(&self) -> u64 {
        self.0.get_ref().0.taken_bytes
    }

    /// The socket under it.
    pub fn tcp(&self) -> &TcpStream {
        &self.0.get_ref().0.stream
    }

    pub(super) fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.0.get_ref().1.handshake_kind()
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
