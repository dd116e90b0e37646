//! A minimal WebSocket client (RFC 6455) for measurements. It shares its cores with the server, so its own cost
//! distorts the result.
//!
//! It is cheap: one write sends many frames, one read receives many, a callback gets each message in place, inside a
//! buffer that all connections of a thread share, and an idle connection owns nothing but its socket. It does not
//! support TLS, compression, and fragmented messages, which it refuses with a clear error.

mod frame;
mod reply;
mod target;

pub use frame::{Frame, FrameError, decode, encode_text};
pub use reply::{Reply, event_id, unhex};
pub use target::{Target, TargetError};

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};

/// The least free space in the buffer before each read.
const READ_BYTES: usize = 256 * 1024;

/// A write buffer that has grown beyond this is freed once it is empty.
const KEPT_WRITE_BYTES: usize = 4 * 1024;

/// The handshake's nonce. It guards against caches that answer in place of a server, of which loopback has none. So the
/// example of RFC 6455 suffices, and the expected answer is a constant too.
const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const NONCE_ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MAX_RESPONSE_HEAD_BYTES: usize = 16 * 1024;

/// Why a connection could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    /// The server did not switch to WebSocket.
    #[error("the server refused the upgrade: {0}")]
    Upgrade(String),
    /// The server sent a frame that this client refuses.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The server sent a Close frame.
    #[error("the server closed the connection with code {code}: {reason}")]
    Closed {
        /// RFC 6455's status code, 1005 where the frame had none.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// The server refused a request; carries its words.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server ended the connection without a Close frame.
    #[error("the server hung up")]
    HungUp,
}

/// The read buffer that all connections of one thread share.
#[derive(Debug, Clone)]
pub struct Scratch(Rc<RefCell<Vec<u8>>>);

impl Scratch {
    /// A new buffer.
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(vec![0; READ_BYTES])))
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// One WebSocket connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    partial: Partial,
    /// True until the bytes behind the handshake's answer were read.
    fresh: bool,
    /// Queued frames; the kernel has not taken those from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
}

impl Client {
    /// Connects and upgrades, from the source address `from` where one is given.
    ///
    /// # Errors
    /// The socket's, or the server's refusal of the upgrade.
    pub async fn connect(target: &Target, from: Option<IpAddr>) -> Result<Self, ClientError> {
        let socket = if target.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let mut stream = socket.connect(target.address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {NONCE}\r\n\r\n",
            target.path, target.host
        );
        stream.write_all(request.as_bytes()).await?;
        let partial = Partial(read_response(&mut stream).await?);
        Ok(Self { stream, partial, fresh: true, unsent: Vec::new(), sent: 0 })
    }

    /// Queues one text message, given in parts. The next [`flush`](Self::flush) or [`receive`](Self::receive) sends it.
    pub fn queue(&mut self, parts: &[&[u8]]) {
        encode_text(parts, &mut self.unsent);
    }

    /// Queues whole frames made by [`encode_text`]; `frames` is empty afterwards.
    pub fn queue_frames(&mut self, frames: &mut Vec<u8>) {
        if self.unsent.is_empty() {
            std::mem::swap(&mut self.unsent, frames);
        } else {
            self.unsent.append(frames);
        }
    }

    /// Bytes queued that the kernel has not taken yet.
    pub fn backlog(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// Hands queued frames to the kernel. Cancel safe: the next call sends the rest.
    ///
    /// It does not read meanwhile, so a server that writes its answers before it reads more could stall it. Use it for
    /// a few messages, and [`receive`](Self::receive) for streams.
    ///
    /// # Errors
    /// The socket's.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        while !self.write_ready()? {
            self.stream.writable().await?;
        }
        Ok(())
    }

    /// Sends what is queued, and waits until at least one whole text message has come; calls `on` with each, in place.
    /// Returns how many there were. Answers pings. Cancel safe.
    ///
    /// # Errors
    /// The socket's; a frame this client refuses; the server's Close.
    pub async fn receive(&mut self, scratch: &Scratch, mut on: impl FnMut(&[u8])) -> Result<usize, ClientError> {
        if std::mem::take(&mut self.fresh) && !self.partial.0.is_empty() {
            let mut greeting = scratch.0.borrow_mut();
            self.partial.room(&mut greeting);
            let messages = self.partial.take(&mut greeting, 0, &mut self.unsent, &mut on)?;
            if messages > 0 {
                return Ok(messages);
            }
        }

        loop {
            let interest =
                if self.write_ready()? { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            if self.stream.ready(interest).await?.is_readable() {
                let messages = self.read_ready(scratch, &mut on)?;
                if messages > 0 {
                    return Ok(messages);
                }
            }
        }
    }

    /// True once nothing is left to write.
    fn write_ready(&mut self) -> Result<bool, ClientError> {
        while self.sent < self.unsent.len() {
            match self.stream.try_write(&self.unsent[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        if self.unsent.capacity() > KEPT_WRITE_BYTES {
            self.unsent = Vec::new();
        }
        self.unsent.clear();
        self.sent = 0;
        Ok(true)
    }

    fn read_ready(&mut self, scratch: &Scratch, on: &mut impl FnMut(&[u8])) -> Result<usize, ClientError> {
        let mut buffer = scratch.0.borrow_mut();
        let read = match self.stream.try_read(self.partial.room(&mut buffer)) {
            Ok(0) => return Err(ClientError::HungUp),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        self.partial.take(&mut buffer, read, &mut self.unsent, on)
    }
}

/// The beginning of a message whose rest has not come yet. Mostly empty, and then without memory.
#[derive(Debug, Default)]
struct Partial(Vec<u8>);

impl Partial {
    /// The part of `buffer` for the next read: behind the space for the kept bytes.
    fn room<'a>(&self, buffer: &'a mut Vec<u8>) -> &'a mut [u8] {
        if buffer.len() < self.0.len() + READ_BYTES {
            buffer.resize(self.0.len() + READ_BYTES, 0);
        }
        &mut buffer[self.0.len()..]
    }

    /// Takes the whole messages out of the kept bytes and the `read` bytes in [`room`](Self::room).
    fn take(
        &mut self,
        buffer: &mut [u8],
        read: usize,
        unsent: &mut Vec<u8>,
        on: &mut impl FnMut(&[u8]),
    ) -> Result<usize, ClientError> {
        let kept = self.0.len();
        buffer[..kept].copy_from_slice(&self.0);
        let filled = &buffer[..kept + read];
        let (messages, consumed) = take_messages(filled, unsent, on)?;
        if consumed == filled.len() {
            self.0 = Vec::new();
        } else {
            self.0.clear();
            self.0.extend_from_slice(&filled[consumed..]);
        }
        Ok(messages)
    }
}

/// Passes each whole text message in `bytes` to `on` and queues answers to pings; returns the number of messages and
/// of bytes they took.
fn take_messages(
    bytes: &[u8],
    unsent: &mut Vec<u8>,
    on: &mut impl FnMut(&[u8]),
) -> Result<(usize, usize), ClientError> {
    let (mut messages, mut consumed) = (0, 0);
    while let Some((frame, length)) = decode(&bytes[consumed..])? {
        consumed += length;
        match frame {
            Frame::Text(text) => {
                messages += 1;
                on(text);
            }
            Frame::Ping(payload) => frame::encode_pong(payload, unsent),
            Frame::Pong => {}
            Frame::Close { code, reason } => return Err(ClientError::Closed { code, reason: reason.to_owned() }),
        }
    }
    Ok((messages, consumed))
}

/// Reads the answer to the upgrade; returns the bytes behind it.
async fn read_response(stream: &mut TcpStream) -> Result<Vec<u8>, ClientError> {
    let mut head = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") {
            break end;
        }
        if head.len() > MAX_RESPONSE_HEAD_BYTES {
            return Err(ClientError::Upgrade("its response head does not end".to_owned()));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(ClientError::HungUp);
        }
    };

    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(ClientError::Upgrade(status.to_owned()));
    }
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let answer = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"));
    if answer.map(|(_, value)| value.trim()) != Some(NONCE_ANSWER) {
        return Err(ClientError::Upgrade("its Sec-WebSocket-Accept does not match the key".to_owned()));
    }
    Ok(head.split_off(end + 4))
}

#[cfg(test)]
mod tests;
