//! The stream under a WebSocket: one buffer of what is to be sent, counted and bounded.
//!
//! tungstenite reads and checks frames, and answers pings and close frames; what it writes goes to the same buffer as
//! our own frames, so no frame is ever sent inside another. Unlike tungstenite's own write buffer this one takes an
//! event's text with a single copy and gives its memory back.

use super::frames::{self, FrameTracker};
use crate::connection::stream::ClientStream;
use crate::memory::{ConnectionMemory, HeldFor, Reservation};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Nothing is added to a buffer that holds this much: with the kernel's buffer it is enough to keep a socket busy.
pub(super) const HIGH_WATER_BYTES: usize = 64 * 1024;

/// A buffer larger than this is freed once it is empty.
const MAX_KEPT_BUFFER_BYTES: usize = 4 * 1024;

/// A message, or what waits to be sent, is counted as memory once it is larger than this.
const UNCOUNTED_BYTES: usize = 16 * 1024;

/// See the module.
pub(super) struct Socket {
    stream: ClientStream,
    out: Vec<u8>,
    /// How many bytes of `out` were sent.
    sent: usize,
    blocked_since: Option<Instant>,
    /// What [`ClientStream::taken_bytes`] was when the socket blocked.
    taken_when_blocked: u64,
    frames: FrameTracker,
    bytes_in: u64,
    bytes_out: u64,
    memory: Arc<ConnectionMemory>,
    /// Counts the message that is arriving, or has just arrived, where it is large.
    message: Option<Reservation>,
    /// Nothing is read until there is memory for the message that has been announced.
    awaited: Option<BoxFuture<'static, Reservation>>,
    /// Counts `out` where that is large.
    sending: Option<Reservation>,
}

impl Socket {
    pub(super) fn new(stream: ClientStream, memory: Arc<ConnectionMemory>) -> Self {
        Self {
            stream,
            out: Vec::new(),
            sent: 0,
            blocked_since: None,
            taken_when_blocked: 0,
            frames: FrameTracker::default(),
            bytes_in: 0,
            bytes_out: 0,
            memory,
            message: None,
            awaited: None,
            sending: None,
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
        self.pending_bytes() < HIGH_WATER_BYTES
    }

    /// How many buffered bytes are not sent yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Since when the client has taken no byte although some are pending.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Counts what is buffered. To be called when something was.
    pub(super) fn count_buffered(&mut self) {
        if self.out.capacity() > UNCOUNTED_BYTES {
            let held = self.sending.get_or_insert_with(|| self.memory.hold(HeldFor::Outbox, 0));
            if held.bytes() != self.out.capacity() {
                held.resize(self.out.capacity());
            }
        }
    }

    /// What counts the message that has just arrived, where it is large.
    pub(super) fn take_message_memory(&mut self) -> Option<Reservation> {
        self.message.take()
    }

    /// Ready once there is memory for the message whose beginning has arrived. A message that has not arrived in time
    /// ends the connection, so nobody waits for ever.
    fn poll_message_memory(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let announced = usize::try_from(self.frames.announced_bytes()).unwrap_or(usize::MAX);
        let counted = self.message.as_ref().map_or(UNCOUNTED_BYTES, Reservation::bytes);
        if announced <= counted {
            return Poll::Ready(());
        }
        let memory = &self.memory;
        let awaited = self.awaited.get_or_insert_with(|| {
            let (memory, more) = (memory.clone(), announced - counted);
            async move { memory.wait_to_hold(HeldFor::Messages, more, more).await }.boxed()
        });
        let more = ready!(awaited.poll_unpin(cx));
        self.awaited = None;
        match &mut self.message {
            Some(message) => message.absorb(more),
            None => self.message = Some(more),
        }
        Poll::Ready(())
    }

    /// Whether the client is inside a frame or a message.
    pub(super) fn frames(&self) -> &FrameTracker {
        &self.frames
    }

    /// Counts bytes from the client, those too that were read before the socket was made.
    pub(super) fn note_received(&mut self, bytes: &[u8]) {
        self.frames.advance(bytes);
        self.bytes_in += bytes.len() as u64;
    }

    /// The bytes received and sent so far.
    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// Sends what is buffered. Ready once nothing is pending.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sending mostly bypasses the runtime, so the task's budget is charged here: else a client that reads as fast
        // as the relay writes would starve the others.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        turn.made_progress();
        let mut progress = false;
        while let Some(pending) = self.out.get(self.sent..).filter(|pending| !pending.is_empty()) {
            match self.stream.poll_send(pending, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.sent += written;
                    self.bytes_out += written as u64;
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.blocked(progress),
            }
        }

        // A stream with a buffer of its own has sent nothing until that is empty too.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => flushed?,
            Poll::Pending => return self.blocked(progress),
        }

        self.blocked_since = None;
        self.sent = 0;
        if self.out.capacity() > MAX_KEPT_BUFFER_BYTES {
            self.out = Vec::new();
            self.sending = None;
        } else {
            self.out.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// Notes that the client takes nothing at present; `progress`: it has taken some of what was pending just now.
    fn blocked(&mut self, progress: bool) -> Poll<io::Result<()>> {
        let taken = self.stream.taken_bytes();
        if progress || taken != self.taken_when_blocked || self.blocked_since.is_none() {
            self.blocked_since = Some(Instant::now());
        }
        self.taken_when_blocked = taken;
        Poll::Pending
    }

    /// Closes at once. The kernel drops what the client has not taken instead of keeping it.
    pub(super) fn abort(self) {
        self.stream.abort();
    }

    /// Shuts down the sending side, then reads and drops what still comes until the client closes too. Closing a socket
    /// with unread bytes resets it, and the client would lose what it has not read yet. The caller sets a deadline.
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
        ready!(self.poll_message_memory(cx));
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.note_received(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

/// Buffers what tungstenite writes: pongs and close frames. Only [`Socket::poll_drain`] sends.
impl AsyncWrite for Socket {
    /// Registers no waker: the task that drains the buffer polls again. A client that pings without reading gets the
    /// last pong only, which RFC 6455, 5.5.3 allows.
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
