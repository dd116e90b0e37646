//! The byte stream of one client: plain TCP, or what is laid over it.

use crate::tls::TlsSocket;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What carries a client's bytes. One type for all kinds, so that what handles a connection is compiled once and its
/// future has one size.
#[derive(Debug)]
pub(super) enum ClientStream {
    /// Bytes as they are.
    Tcp(TcpStream),
    /// Encrypted. Boxed: it is large, and most connections of most relays have none.
    Tls(Box<TlsSocket>),
}

impl ClientStream {
    /// Sends what it can of `bytes`, like [`AsyncWrite::poll_write`]. Over TCP it tries the system call first and
    /// registers with the runtime only where the kernel's buffer is full: the runtime's state of a quiet socket is one
    /// more cache miss.
    pub(super) fn poll_send(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => match rustix::net::send(&*stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => Poll::Ready(Ok(sent)),
                Err(Errno::AGAIN | Errno::INTR) => Pin::new(stream).poll_write(cx, bytes),
                Err(error) => Poll::Ready(Err(error.into())),
            },
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// True where the bytes are encrypted.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// How many bytes the socket has taken, where that cannot be seen from what [`poll_send`](Self::poll_send) takes.
    pub(super) fn taken_bytes(&self) -> u64 {
        match self {
            Self::Tcp(_) => 0,
            Self::Tls(stream) => stream.taken_bytes(),
        }
    }

    /// The address of this machine to which the client has connected.
    pub(super) fn local_address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(|address| address.ip()),
            Self::Tls(stream) => stream.tcp().local_addr().ok().map(|address| address.ip()),
        }
    }

    /// Closes at once. The kernel drops what the client has not taken instead of keeping it.
    pub(super) fn abort(self) {
        match self {
            // If it fails, the kernel keeps the bytes for a while.
            Self::Tcp(stream) => drop(stream.set_zero_linger()),
            Self::Tls(stream) => drop(stream.tcp().set_zero_linger()),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
