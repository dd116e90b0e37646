//! The TCP stream under a WebSocket: one buffer of what is to be sent, counted and bounded.
//!
//! tungstenite reads, checks and answers pings and goodbyes; what it writes lands in the same buffer as our own
//! frames, so nothing is ever sent in the middle of something else. Unlike tungstenite's own write buffer this one
//! takes an event's text with a single copy and gives its memory back.

use super::frames::{self, FrameTracker};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Past this much, no more is put in: the kernel's buffer and this one are enough to keep a socket busy.
pub(super) const HIGH_WATER_BYTES: usize = 64 * 1024;

/// A buffer larger than this is given back once it is empty.
const KEPT_BYTES: usize = 4 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    out: Vec<u8>,
    /// How much of `out` was sent already.
    sent: usize,
    blocked_since: Option<Instant>,
    frames: FrameTracker,
    bytes_in: u64,
    bytes_out: u64,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            out: Vec::new(),
            sent: 0,
            blocked_since: None,
            frames: FrameTracker::default(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Buffers a text message.
    pub(super) fn push_text(&mut self, text: &str) {
        frames::push_text(text, &mut self.out);
    }

    /// Buffers a ping.
    pub(super) fn push_ping(&mut self) {
        frames::push_ping(&mut self.out);
    }

    /// True while more may be buffered.
    pub(super) fn has_room(&self) -> bool {
        self.waiting() < HIGH_WATER_BYTES
    }

    /// How many buffered bytes wait.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Since when the client has taken no byte although some wait.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Where the client stands between frames.
    pub(super) fn frames(&self) -> &FrameTracker {
        &self.frames
    }

    /// Takes note of bytes that were read before the stream came here.
    pub(super) fn note_received(&mut self, bytes: &[u8]) {
        self.frames.advance(bytes);
        self.bytes_in += bytes.len() as u64;
    }

    /// The bytes received and sent so far.
    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// Sends what is buffered. Ready once nothing waits.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing below asks the runtime as a rule, and a client that takes whatever it gets must not keep the others
        // from their turn.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        turn.made_progress();
        let mut progress = false;
        while let Some(waiting) = self.out.get(self.sent..).filter(|waiting| !waiting.is_empty()) {
            match send(&mut self.stream, waiting, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.sent += written;
                    self.bytes_out += written as u64;
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if progress || self.blocked_since.is_none() {
                        self.blocked_since = Some(Instant::now());
                    }
                    return Poll::Pending;
                }
            }
        }
        self.blocked_since = None;
        self.sent = 0;
        if self.out.capacity() > KEPT_BYTES {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// Hangs up at once. What the client has not taken is thrown away instead of waiting in the kernel.
    pub(super) fn abort(self) {
        // If it fails, the kernel waits a little longer for the client.
        let _ = self.stream.set_zero_linger();
    }

    /// Says that nothing more will be sent, then reads and drops what still comes until the client hangs up. Closing
    /// a socket with unread bytes resets it, and the client would lose what it has not read yet. The caller sets a
    /// deadline.
    pub(super) async fn linger(mut self) -> io::Result<()> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        self.stream.shutdown().await?;
        let mut dropped = [0; 512];
        while self.stream.read(&mut dropped).await? > 0 {}
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.note_received(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

/// Asks the kernel first and the runtime only where the kernel's buffer is full: what the runtime knows of a quiet
/// socket is one more line of memory to wait for.
fn send(stream: &mut TcpStream, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match rustix::net::send(&*stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(sent) => Poll::Ready(Ok(sent)),
        Err(Errno::AGAIN | Errno::INTR) => Pin::new(stream).poll_write(cx, bytes),
        Err(error) => Poll::Ready(Err(error.into())),
    }
}

/// What tungstenite writes, pongs and goodbyes, is buffered; only [`Socket::poll_drain`] sends.
impl AsyncWrite for Socket {
    /// Never wakes: whoever drains the buffer polls again. A client that pings without reading gets the last pong
    /// only, which RFC 6455 allows.
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.has_room() {
            return Poll::Pending;
        }
        self.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
