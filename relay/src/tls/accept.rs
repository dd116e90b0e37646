//! One handshake: makes a TLS stream of an accepted TCP stream, or refuses it with the reason.

use super::certificates::{Certificates, Challenges};
use super::config::{self, ACME_TLS};
use super::stream::{CountedTcp, TlsSocket};
use super::threads::HandshakeThreads;
use crate::config::TlsSettings;
use crate::task::Tasks;
use crate::telemetry::{Metrics, Task, TlsHandshake};
use rustls::server::Acceptor;
use rustls::{HandshakeKind, ServerConfig};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls;

/// The first byte of a TLS connection: the type of a handshake record (RFC 8446, 5.1).
pub const HANDSHAKE_RECORD: u8 = 0x16;

/// The most bytes of encrypted output that wait for a connection's socket. The default of rustls is the same; it is set
/// here because it bounds the memory of a slow client.
const MAX_UNSENT_BYTES: usize = 64 * 1024;

/// How much of a plain request is read before it is answered.
const MAX_PLAIN_BYTES: usize = 16 * 1024;

/// The answer to plain HTTP on the TLS port.
const SPEAK_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 54\r\n\
    Connection: close\r\n\r\nthis port speaks TLS: connect with wss:// or https://\n";

/// Does handshakes, on threads of their own. Each is bounded in time, and all together in number.
#[derive(Debug)]
pub struct Handshakes {
    for_clients: Arc<ServerConfig>,
    for_challenges: Arc<ServerConfig>,
    threads: HandshakeThreads,
    places: Arc<Semaphore>,
    timeout: Duration,
    metrics: Arc<Metrics>,
    tasks: Tasks,
}

/// Why there is no TLS stream.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The most handshakes are under way.
    #[error("too many handshakes at once")]
    Refused,
    /// The handshake took too long.
    #[error("the handshake was not done in time")]
    Late,
    /// HTTP without TLS, which was answered.
    #[error("plain HTTP on the TLS port")]
    PlainHttp,
    /// An ACME authority has seen its challenge: no failure, but no client either.
    #[error("an ACME challenge")]
    Challenge,
    /// An error of TLS or of the socket.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl HandshakeError {
    fn label(&self) -> TlsHandshake {
        match self {
            Self::Refused => TlsHandshake::Refused,
            Self::Late => TlsHandshake::Late,
            Self::PlainHttp => TlsHandshake::PlainHttp,
            Self::Challenge => TlsHandshake::Challenge,
            Self::Io(_) => TlsHandshake::Failed,
        }
    }
}

impl Handshakes {
    /// Serves `certificates` to clients and `challenges` to an ACME authority.
    ///
    /// # Errors
    /// The system cannot provide randomness or a thread.
    pub fn new(
        settings: &TlsSettings,
        certificates: Arc<Certificates>,
        challenges: Arc<Challenges>,
        metrics: Arc<Metrics>,
        tasks: Tasks,
    ) -> io::Result<Self> {
        Ok(Self {
            for_clients: config::for_clients(certificates).map_err(io::Error::other)?,
            for_challenges: config::for_challenges(challenges).map_err(io::Error::other)?,
            threads: HandshakeThreads::start(settings.handshake_threads())?,
            places: Arc::new(Semaphore::new(settings.max_handshakes)),
            timeout: settings.handshake_timeout,
            metrics,
            tasks,
        })
    }

    /// The longest that [`accept`](Self::accept) takes.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes a TLS stream of `stream`. Ends within the timeout of the settings. Cancel safe: a handshake whose future
    /// is dropped ends by itself within that time.
    ///
    /// # Errors
    /// Why there is none; the error is counted.
    pub async fn accept(&self, stream: TcpStream) -> Result<Box<TlsSocket>, HandshakeError> {
        let accepted = self.accept_uncounted(stream).await;
        let label = match &accepted {
            Ok(stream) => match stream.handshake_kind() {
                Some(HandshakeKind::Resumed) => TlsHandshake::Resumed,
                _ => TlsHandshake::Full,
            },
            Err(error) => error.label(),
        };
        self.metrics.tls_handshakes.of(label).increment(1);
        accepted
    }

    async fn accept_uncounted(&self, stream: TcpStream) -> Result<Box<TlsSocket>, HandshakeError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| HandshakeError::Refused)?;
        let (for_clients, for_challenges) = (self.for_clients.clone(), self.for_challenges.clone());
        let limit = self.timeout;
        let handshake = self.threads.spawn(self.tasks.watched(Task::Handshake, async move {
            let handshake = Box::pin(handshake(stream, for_clients, for_challenges, place));
            timeout(limit, handshake).await.unwrap_or(Err(HandshakeError::Late))
        }));
        match handshake {
            Some(handshake) => handshake.await.map_err(io::Error::other)?,
            None => Err(HandshakeError::Refused),
        }
    }
}

async fn handshake(
    stream: TcpStream,
    for_clients: Arc<ServerConfig>,
    for_challenges: Arc<ServerConfig>,
    _place: OwnedSemaphorePermit,
) -> Result<Box<TlsSocket>, HandshakeError> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if first[0].is_ascii_uppercase() {
        answer_plain(stream).await?;
        return Err(HandshakeError::PlainHttp);
    }
    // The ClientHello is read before a configuration is chosen, since it tells an ACME authority from a client. Bytes
    // that are not TLS get an alert.
    let start = LazyConfigAcceptor::new(Acceptor::default(), CountedTcp::new(stream)).await?;
    let is_challenge = start.client_hello().alpn().is_some_and(|mut names| names.any(|name| name == ACME_TLS));
    if is_challenge {
        let mut stream = start.into_stream(for_challenges).await?;
        // The authority has seen the certificate; such a connection carries no data (RFC 8737, 3).
        stream.shutdown().await?;
        return Err(HandshakeError::Challenge);
    }
    let limited = |connection: &mut rustls::ServerConnection| connection.set_buffer_limit(Some(MAX_UNSENT_BYTES));
    Ok(Box::new(TlsSocket::new(start.into_stream_with(for_clients, limited).await?)))
}

/// Reads the request, since closing a socket with unread bytes would reset it and lose the answer. Then answers that
/// this port needs TLS. The caller sets a deadline.
async fn answer_plain(mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") && request.len() < MAX_PLAIN_BYTES {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    stream.write_all(SPEAK_TLS).await?;
    stream.shutdown().await?;
    let mut dropped = [0; 512];
    while stream.read(&mut dropped).await? > 0 {}
    Ok(())
}
